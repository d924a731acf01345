package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// enterRoot makes the overlay, with everything mounted in it, the root of this
// process. It returns the mount targets it had to make in the image's own root.
func (s *setup) enterRoot() (made []string, err error) {
	// Nothing of what follows may spread to the host.
	err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == unix.EINVAL {
		return nil, errors.New("the root directory of this process is no mount, as in a plain chroot: " +
			"mount it over itself (mount --bind DIR DIR) before the chroot")
	}
	if err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// Sources are looked up while paths are still the host's.
	sources := make([]int, len(s.Mounts))
	for i, m := range s.Mounts {
		if m.Type != "bind" {
			continue
		}
		if sources[i], err = m.openSource(); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	if err := s.mountOverlay(); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	if err := s.pivot(); err != nil {
		return nil, err
	}
	for i, m := range s.Mounts {
		fd := sources[i]
		if m.Type != "bind" {
			if fd, err = m.openFileSystem(); err != nil {
				return made, fmt.Errorf("mount %s: %w", m.Target, err)
			}
		}
		targets, err := m.attach(fd)
		unix.Close(fd)
		made = append(made, targets...)
		if err != nil {
			return made, fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return made, nil
}

// pivot makes what is mounted on the upper directory the root, and forgets the
// host's.
func (s *setup) pivot() error {
	if err := unix.Chdir(s.Upper); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := wantWritable("."); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	// The old root lies over the new one now; the mounts that were taken from
	// it are held by their descriptors.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}

// makeRootReadonly keeps the process from writing to the overlay; what is
// mounted in it stays as it is.
func makeRootReadonly() error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, attr); err != nil {
		return fmt.Errorf("make root read-only: %w", err)
	}
	return nil
}

// wantWritable finds the overlay that the kernel made read-only because it
// could not use the work directory: on a full disk, say. A command that does
// not mind would run to its end and leave no layer.
func wantWritable(root string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return err
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return errors.New("its work directory cannot be written")
	}
	return nil
}

// overlayOptions keep the upper directory a plain layer that any other overlay
// can lie over, and spare the disk what is thrown away on a crash anyway.
// Inode numbers need no help (xino): all layers lie on one file system.
var overlayOptions = []string{"index=off", "redirect_dir=off", "metacopy=off", "xino=off", "volatile"}

// mountOverlay mounts the overlay over its own upper directory: a place that
// exists anyway, and that only this process sees covered.
//
// Directories are handed to the kernel as numbers of descriptors, relative to
// /proc/self/fd: a path of any length fits, and the process does not read the
// builder's paths in its mount table.
func (s *setup) mountOverlay() error {
	lower := make([]string, len(s.Lower))
	for i, dir := range s.Lower {
		name, err := openLayer(dir)
		if err != nil {
			return err
		}
		lower[i] = name
	}
	upper, err := openLayer(s.Upper)
	if err != nil {
		return err
	}
	work, err := openLayer(s.Work)
	if err != nil {
		return err
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return err
	}
	options := append([]string{"upperdir=" + upper, "workdir=" + work}, overlayOptions...)
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for i, dir := range lower {
		err := unix.FsconfigSetString(fs, "lowerdir+", dir)
		if err == unix.EINVAL && i == 0 { // before Linux 6.7
			return s.mountOverlayByString(lower, options)
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", s.Lower[i], fsError(fs, err))
		}
	}
	if err := configure(fs, options); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, s.Upper, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// openLayer opens a directory for good: the descriptor ends with execve.
func openLayer(dir string) (name string, err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	return strconv.Itoa(fd), nil
}

// mountOverlayByString is the way of kernels that take the layers in one
// string, which is a page long at most.
func (s *setup) mountOverlayByString(lower, options []string) error {
	data := strings.Join(append([]string{"lowerdir=" + strings.Join(lower, ":")}, options...), ",")
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers are too many for this kernel: it takes their names in one page", len(lower))
	}
	return unix.Mount("overlay", s.Upper, "overlay", 0, data)
}

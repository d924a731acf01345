package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hidePaths covers what the spec masks, and makes read-only what it says. Paths
// that are not there are no error: kernels differ.
func (s *setup) hidePaths() error {
	for _, path := range s.Readonly {
		if err := makeReadonly(path); err != nil {
			return fmt.Errorf("read-only %s: %w", path, err)
		}
	}
	empty := -1
	for _, path := range s.Masked {
		target, err := openInside(path, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err == nil {
			empty, err = mask(target, empty)
			unix.Close(target)
		}
		if err != nil {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	return nil
}

// makeReadonly mounts path over itself, read-only.
func makeReadonly(path string) error {
	target, err := openInside(path, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	fd, err := unix.OpenTree(target, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		return err
	}
	return attachAt(fd, target)
}

// mask covers a file by /dev/null and a directory by an empty one. All
// directories share one empty file system: empty is a mount of it, or -1.
func mask(target, empty int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return empty, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return empty, maskFile(target)
	}
	if empty < 0 {
		m := mount{Type: "tmpfs", Attrs: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC, Options: []string{"size=0", "mode=755"}}
		fd, err := m.openFileSystem()
		if err != nil {
			return empty, err
		}
		return fd, attachAt(fd, target)
	}
	fd, err := unix.OpenTree(empty, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return empty, err
	}
	defer unix.Close(fd)
	return empty, attachAt(fd, target)
}

func maskFile(target int) error {
	null, err := openInside("/dev/null", unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	var st unix.Stat_t
	if err := unix.Fstat(null, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		return errors.New("/dev/null is not the null device")
	}
	fd, err := unix.OpenTree(null, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attachAt(fd, target)
}

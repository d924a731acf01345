package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountRoot makes the overlay with everything mounted in it the root of this
// process. It returns the mount targets it had to make in the image's own root.
func (c *initConfig) mountRoot() (made []string, err error) {
	// Nothing of what follows may spread to the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// Sources are looked up while the builder's paths still mean something.
	binds := make([]int, len(c.Spec.Mounts))
	for i, m := range c.Spec.Mounts {
		if m.Type != "bind" {
			continue
		}
		if binds[i], err = openBind(m); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	if err := c.mountOverlay(); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	if err := unix.Chdir(c.Root); err != nil {
		return nil, fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return nil, fmt.Errorf("pivot root: %w", err)
	}
	// The old root lies over the new one now; the mounts that were taken from
	// it are held by their descriptors.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return nil, fmt.Errorf("enter root: %w", err)
	}
	for i, m := range c.Spec.Mounts {
		targets, err := mountOne(m, binds[i])
		made = append(made, targets...)
		if err != nil {
			return made, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if m.Destination == "/dev" {
			if err := fillDev(); err != nil {
				return made, fmt.Errorf("make /dev: %w", err)
			}
		}
	}
	return made, nil
}

// mountOverlay mounts the overlay on c.Root.
func (c *initConfig) mountOverlay() error {
	lower := append(append([]string(nil), c.Rootfs.Lower...), c.Stub)
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return c.mountOverlayByString(lower)
	}
	defer unix.Close(fs)
	for i, dir := range lower {
		err := setPath(fs, "lowerdir+", dir)
		if err == unix.EINVAL && i == 0 {
			return c.mountOverlayByString(lower) // before Linux 6.8
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", dir, fsError(fs, err))
		}
	}
	if err := setPath(fs, "upperdir", c.Rootfs.Upper); err != nil {
		return fsError(fs, err)
	}
	if err := setPath(fs, "workdir", c.Rootfs.Work); err != nil {
		return fsError(fs, err)
	}
	for _, o := range overlayOptions {
		key, value, hasValue := strings.Cut(o, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", o, fsError(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fsError(fs, err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, c.Root, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// overlayOptions keep the upper directory a plain layer that any other overlay
// can lie over, and spare the disk what is thrown away on a crash anyway.
var overlayOptions = []string{"index=off", "redirect_dir=off", "metacopy=off", "xino=off", "volatile"}

// mountOverlayByString is the way of kernels that take the layers in one
// string, which is a page long at most.
func (c *initConfig) mountOverlayByString(lower []string) error {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	for i := range lower {
		lower[i] = escape.Replace(lower[i])
	}
	data := strings.Join(append([]string{
		"lowerdir=" + strings.Join(lower, ":"),
		"upperdir=" + escape.Replace(c.Rootfs.Upper),
		"workdir=" + escape.Replace(c.Rootfs.Work),
	}, overlayOptions...), ",")
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers are too many for this kernel: it takes their names in one page", len(lower))
	}
	return unix.Mount("overlay", c.Root, "overlay", 0, data)
}

// setPath passes a path to fsconfig, which takes 255 bytes at most: a longer
// one goes by way of a descriptor, which is closed once it was looked up.
func setPath(fs int, key, path string) error {
	if len(path) < 256 {
		return unix.FsconfigSetString(fs, key, path)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.FsconfigSetString(fs, key, fmt.Sprintf("/proc/self/fd/%d", fd))
}

// fsError adds what the kernel says about the failure to err.
func fsError(fs int, err error) error {
	var b [1024]byte
	n, readErr := unix.Read(fs, b[:])
	if readErr != nil || n == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[:n])))
}

// openBind takes a mount of its own of the source, not attached anywhere yet.
func openBind(m specs.Mount) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	for _, o := range m.Options {
		if o == "rbind" {
			flags |= unix.AT_RECURSIVE
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	return fd, nil
}

// mountOne mounts m inside the root, which is this process's by now. bind is
// the source of a bind mount.
func mountOne(m specs.Mount, bind int) (made []string, err error) {
	attrs, options := mountAttrs(m.Options)
	fd := bind
	if m.Type != "bind" {
		if fd, err = newMount(m, attrs, options); err != nil {
			return nil, err
		}
	} else if attrs != 0 {
		attr := &unix.MountAttr{Attr_set: uint64(attrs)}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return nil, err
		}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	target, made, err := openTarget(m.Destination, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return made, err
	}
	defer unix.Close(target)
	return made, unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// newMount makes a file system, not attached anywhere yet.
func newMount(m specs.Mount, attrs int, options []string) (int, error) {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		key, value, hasValue := strings.Cut(o, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return 0, fmt.Errorf("option %s: %w", o, fsError(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return 0, fsError(fs, err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
}

// mountAttrs parts the options that any mount has from those of a file system.
func mountAttrs(options []string) (attrs int, rest []string) {
	for _, o := range options {
		switch o {
		case "ro":
			attrs |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			attrs |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			attrs |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			attrs |= unix.MOUNT_ATTR_NOEXEC
		case "rw", "bind", "rbind":
		default:
			rest = append(rest, o)
		}
	}
	return attrs, rest
}

// openTarget opens what is to be mounted on, and makes it where it is missing.
// The root of this process is the image's already, so a symlink of the image
// leads to nowhere else.
func openTarget(path string, dir bool) (fd int, made []string, err error) {
	fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, nil, err
	}
	path, made, err = makeMissing(path, dir)
	if err != nil {
		return 0, made, err
	}
	fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	return fd, made, err
}

// makeMissing makes path and its parents, following links that dangle, and
// returns what it made on the image's own file system.
func makeMissing(path string, dir bool) (at string, made []string, err error) {
	rest := strings.Split(strings.Trim(path, "/"), "/")
	at = "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:strings.LastIndexByte(strings.TrimSuffix(at, "/"), '/')+1]
			continue
		}
		next := strings.TrimSuffix(at, "/") + "/" + name
		if link, err := os.Readlink(next); err == nil {
			if links++; links > 40 {
				return at, made, unix.ELOOP
			}
			if strings.HasPrefix(link, "/") {
				at = "/"
			}
			rest = append(strings.Split(link, "/"), rest...)
			continue
		}
		at = next
		if len(rest) == 0 && !dir {
			f, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return at, made, err
			}
			f.Close()
		} else if err := os.Mkdir(at, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return at, made, err
		}
		made = append(made, strings.TrimPrefix(at, "/"))
	}
	return at, made, nil
}

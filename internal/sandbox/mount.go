package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mount is one mount of the spec, with its options told apart.
type mount struct {
	Target    string // absolute and clean, in the root
	Type      string // of the file system; "bind" for a directory or file of the host
	Source    string // of a bind, a path of the host
	Recursive bool   // take the mounts below Source along
	File      bool   // Source is not a directory
	Attrs     int    // MOUNT_ATTR_*
	Options   []string
}

// mountAttrs are the options that any mount can have.
var mountAttrs = map[string]int{
	"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "noatime": unix.MOUNT_ATTR_NOATIME, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
	// What a mount is anyway: nothing spreads out of the sandbox or into it.
	"rw": 0, "suid": 0, "dev": 0, "exec": 0, "relatime": 0, "private": 0, "rprivate": 0,
}

func newMount(m specs.Mount) (mount, error) {
	planned := mount{Target: path.Clean(m.Destination), Type: m.Type, Source: m.Source}
	if !path.IsAbs(planned.Target) || planned.Target == "/" {
		return mount{}, errors.New("the destination has to be an absolute path below the root")
	}
	for _, o := range m.Options {
		attr, known := mountAttrs[o]
		switch {
		case known:
			planned.Attrs |= attr
		case o == "bind" || o == "rbind":
			planned.Type = "bind"
			planned.Recursive = o == "rbind"
		default:
			planned.Options = append(planned.Options, o)
		}
	}
	if planned.Type != "bind" {
		return planned, nil
	}
	if len(planned.Options) > 0 {
		return mount{}, fmt.Errorf("option %s: not known", planned.Options[0])
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return mount{}, fmt.Errorf("source: %w", err)
	}
	planned.File = !info.IsDir()
	return planned, nil
}

// openSource takes a mount of its own of a bind's source, not attached anywhere
// yet. It is called while paths are the host's.
func (m mount) openSource() (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil {
		return -1, fmt.Errorf("source: %w", err)
	}
	if m.Attrs != 0 {
		attr := &unix.MountAttr{Attr_set: uint64(m.Attrs)}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return -1, err
		}
	}
	return fd, nil
}

// openFileSystem makes a file system, not attached anywhere yet.
func (m mount) openFileSystem() (int, error) {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", m.Type, err)
	}
	defer unix.Close(fs)
	if err := configure(fs, m.Options); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, m.Attrs)
}

// configure sets options and makes the file system.
func configure(fs int, options []string) error {
	for _, o := range options {
		key, value, hasValue := strings.Cut(o, "=")
		set := func() error { return unix.FsconfigSetFlag(fs, key) }
		if hasValue {
			set = func() error { return unix.FsconfigSetString(fs, key, value) }
		}
		if err := set(); err != nil {
			return fmt.Errorf("option %s: %w", o, fsError(fs, err))
		}
	}
	return fsError(fs, unix.FsconfigCreate(fs))
}

// fsError adds what the kernel says about the failure to err.
func fsError(fs int, err error) error {
	if err == nil {
		return nil
	}
	var b [1024]byte
	n, readErr := unix.Read(fs, b[:])
	if readErr != nil || n == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[:n])))
}

// attach attaches the mount fd at m's target, in the root that is this
// process's by now. It returns what had to be made of the target.
func (m mount) attach(fd int) (made []string, err error) {
	if m.Target == "/dev" && m.Type == "tmpfs" {
		if err := fillDev(fd); err != nil {
			return nil, err
		}
	}
	// What these hide or show is part of the isolation: an image must not move
	// them elsewhere.
	system := m.Target == "/proc" || m.Target == "/dev" || m.Target == "/sys"
	target, made, err := openTarget(m.Target, m.File, system)
	if err != nil {
		return made, err
	}
	defer unix.Close(target)
	return made, attachAt(fd, target)
}

// attachAt attaches the mount fd on what target is.
func attachAt(fd, target int) error {
	return unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Paths in this file are resolved when the root of the process is the image's
// already, so links of the image lead to nowhere else; the magic links of /proc
// that could are never followed.

// openInside opens path, which may be anything, for reference only.
func openInside(path string, resolve uint64) (int, error) {
	return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: resolve | unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// openTarget opens what is to be mounted on, and makes it where it is missing:
// an empty file or directory. It returns what it made, relative to the root.
// With straight set, no link may be on the way.
func openTarget(path string, file, straight bool) (fd int, made []string, err error) {
	var resolve uint64
	if straight {
		resolve = unix.RESOLVE_NO_SYMLINKS
	}
	fd, err = openInside(path, resolve)
	if straight && err == unix.ELOOP {
		return -1, nil, errors.New("it is a symbolic link in the image")
	}
	if err == unix.ENOENT {
		var at string
		if at, made, err = makeTarget(path, file); err == nil {
			fd, err = openInside(at, unix.RESOLVE_NO_SYMLINKS)
		}
	}
	if err != nil {
		return -1, made, err
	}
	if err := checkKind(fd, file); err != nil {
		unix.Close(fd)
		return -1, made, err
	}
	return fd, made, nil
}

func checkKind(fd int, file bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; isDir && file {
		return fmt.Errorf("a file cannot be mounted on a directory: %w", unix.EISDIR)
	} else if !isDir && !file {
		return unix.ENOTDIR
	}
	return nil
}

// makeTarget makes path and the directories above it where they are missing,
// also behind links that dangle. It follows links by their text, one component
// at a time, so what it makes is where the path says, link-free: at.
func makeTarget(path string, file bool) (at string, made []string, err error) {
	rest := strings.Split(strings.Trim(path, "/"), "/")
	at = "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, strings.LastIndexByte(at, '/'))]
			continue
		}
		next := strings.TrimSuffix(at, "/") + "/" + name
		if link, err := os.Readlink(next); err == nil {
			if links++; links > 40 { // MAXSYMLINKS of the kernel
				return at, made, unix.ELOOP
			}
			if strings.HasPrefix(link, "/") {
				at = "/"
			}
			rest = append(strings.Split(link, "/"), rest...)
			continue
		}
		at = next
		switch err := makeComponent(at, file && len(rest) == 0); {
		case err == nil:
			made = append(made, strings.TrimPrefix(at, "/"))
		case !errors.Is(err, os.ErrExist):
			return at, made, fmt.Errorf("make %s: %w", at, err)
		}
	}
	return at, made, nil
}

func makeComponent(path string, file bool) error {
	if !file {
		return unix.Mkdir(path, 0o755)
	}
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

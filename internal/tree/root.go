package tree

import (
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// openBeneath is how paths are resolved inside a root: no symlink anywhere on
// the way, the last component included, and no way up.
const openBeneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// dirHandle is an open directory shared by those who still work in it; it is
// closed with the last reference.
type dirHandle struct {
	fd   int
	refs atomic.Int32
}

func newDirHandle(fd int) *dirHandle {
	h := &dirHandle{fd: fd}
	h.refs.Store(1)
	return h
}

func (h *dirHandle) acquire() *dirHandle {
	h.refs.Add(1)
	return h
}

func (h *dirHandle) release() {
	if h.refs.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// openRoot opens the directory that other paths are relative to. Symlinks in
// dir itself are the caller's and are followed.
func openRoot(dir string) (*dirHandle, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return newDirHandle(fd), nil
}

// open opens a clean relative path below h without following any symlink.
func (h *dirHandle) open(path string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: openBeneath}
	return retry(func() (int, error) { return unix.Openat2(h.fd, path, &how) })
}

// openChild opens one name directly inside h, not following a symlink.
func (h *dirHandle) openChild(name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(h.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
}

func retry[T any](f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if err != unix.EINTR && err != unix.EAGAIN {
			return v, err
		}
	}
}

// readNames lists the names in the open directory fd, sorted by bytes. buf is
// scratch space.
func readNames(fd int, buf []byte) ([]string, error) {
	var names []string
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	slices.Sort(names)
	return names, nil
}

// readFull reads exactly len(p) bytes from fd.
func readFull(fd int, p []byte) error {
	for done := 0; done < len(p); {
		n, err := retry(func() (int, error) { return unix.Read(fd, p[done:]) })
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("ends after %d of %d bytes", done, len(p))
		}
		done += n
	}
	return nil
}

// writeFull writes all of p to fd.
func writeFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, p) })
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

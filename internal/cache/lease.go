package cache

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lease is a process's right to a temporary directory: a lock that the kernel
// frees when the process ends, however it ends.
type lease struct {
	dir  string
	lock *os.File
}

// takeLease makes this process's temporary directory, and removes those of
// processes that are gone. The lock file tmp/.lock orders the two: without it
// a lease just made and not yet locked would look abandoned.
func (s *Store) takeLease() (*lease, error) {
	tmp := filepath.Join(s.dir, "tmp")
	gate, err := os.OpenFile(filepath.Join(tmp, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if err := flock(gate, unix.LOCK_EX); err != nil {
		return nil, err
	}
	dir := filepath.Join(tmp, rand.Text())
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	l := &lease{dir: dir, lock: lock}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, l.release())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, errors.Join(err, l.release())
	}
	abandoned, err := abandonedLeases(tmp)
	if err != nil {
		return nil, errors.Join(err, l.release())
	}
	gate.Close() // removal may take long and needs only the abandoned locks
	for _, a := range abandoned {
		if err := a.release(); err != nil {
			return nil, errors.Join(err, l.release())
		}
	}
	if len(abandoned) > 0 {
		s.removeFreeLocks()
	}
	return l, nil
}

// abandonedLeases locks and returns the leases whose owners are gone.
func abandonedLeases(tmp string) ([]*lease, error) {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return nil, err
	}
	var gone []*lease
	for _, e := range entries {
		name, isLock := strings.CutSuffix(e.Name(), ".lock")
		if !isLock || name == "" {
			continue
		}
		f, err := os.OpenFile(filepath.Join(tmp, e.Name()), os.O_RDWR, 0)
		if err != nil {
			continue // its owner has just ended in order
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		gone = append(gone, &lease{dir: filepath.Join(tmp, name), lock: f})
	}
	return gone, nil
}

// release removes the directory, then the lock's name, then the lock.
func (l *lease) release() error {
	err := removeAll(l.dir)
	if err == nil {
		os.Remove(l.lock.Name())
	}
	return errors.Join(err, l.lock.Close())
}

// removeAll is os.RemoveAll for trees whose directories may forbid it to a
// user who is not root, as the work directory of an overlay does.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// flock retries on signals, which Go's runtime sends to itself.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

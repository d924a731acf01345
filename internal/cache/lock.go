package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"stagecraft/internal/oci"
)

// Lock takes the lock of that name, which excludes other goroutines and other
// processes alike, and waits for it until ctx ends. The kernel frees it when
// the process dies.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path := filepath.Join(s.dir, "locks", oci.FromBytes([]byte(name)).Encoded())
	wait := time.Millisecond
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		switch err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			if sameFile(f, path) {
				return func() {
					// The name goes first: whoever opens it from now on gets
					// another file, and whoever waits on this one sees that
					// it lost its name.
					os.Remove(path)
					f.Close()
				}, nil
			}
			f.Close()
			continue
		case unix.EWOULDBLOCK:
			f.Close()
		default:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", name, context.Cause(ctx))
		case <-time.After(wait):
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// removeFreeLocks removes the names of locks that processes which are gone held:
// nobody may ever want those locks again.
func (s *Store) removeFreeLocks() {
	paths, _ := filepath.Glob(filepath.Join(s.dir, "locks", "*")) // the pattern is well formed
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // its owner has just removed it
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(f, path) {
			os.Remove(path)
		}
		f.Close()
	}
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

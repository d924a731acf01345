package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// No file is synced on its own: a build writes tens of thousands. Instead the
// store remembers until when all of it is known to be on disk, and after a
// reboot drops whatever is newer. A clean power-off loses nothing either way;
// a power cut costs the steps of the last minutes.

// syncAfter is how long the store may run ahead of the disk before a build
// syncs it in the background. By then the kernel has written most of it
// (dirty_expire_centisecs is 30 s by default), so the call is short.
const syncAfter = time.Minute

const bootIDPath = "/proc/sys/kernel/random/boot_id"

func (s *Store) syncedPath() string { return filepath.Join(s.dir, "synced") }
func (s *Store) dirtyPath() string  { return filepath.Join(s.dir, "dirty") }

// recoverFromReboot removes what a power cut may have torn, and starts the
// background sync where it is due.
func (s *Store) recoverFromReboot() error {
	boot, err := os.ReadFile(bootIDPath)
	if err != nil {
		return fmt.Errorf("boot id: %w", err)
	}
	id := strings.TrimSpace(string(boot))
	since, same := s.lastSync(id)
	if same {
		s.syncIfDue(id, since)
		return nil
	}
	unlock, err := s.Lock(context.Background(), "recover")
	if err != nil {
		return err
	}
	defer unlock()
	if since, same = s.lastSync(id); same {
		return nil // another process was faster
	}
	if err := s.dropNewerThan(since); err != nil {
		return err
	}
	return s.markSynced(id, time.Now())
}

// lastSync returns when the store was last known to be whole on disk, and
// whether that was in this boot.
func (s *Store) lastSync(boot string) (time.Time, bool) {
	b, err := os.ReadFile(s.syncedPath())
	if err != nil {
		return time.Time{}, false
	}
	info, err := os.Stat(s.syncedPath())
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), string(b) == boot
}

func (s *Store) markSynced(boot string, at time.Time) error {
	tmp := s.tempPath("synced")
	if err := os.WriteFile(tmp, []byte(boot), 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(tmp, at, at); err != nil {
		return err
	}
	return os.Rename(tmp, s.syncedPath())
}

// markDirty notes, once per process, that the store is about to change.
func (s *Store) markDirty() {
	s.dirty.Do(func() {
		now := time.Now()
		if os.Chtimes(s.dirtyPath(), now, now) != nil {
			os.WriteFile(s.dirtyPath(), nil, 0o600)
		}
	})
}

func (s *Store) syncIfDue(boot string, since time.Time) {
	info, err := os.Stat(s.dirtyPath())
	if err != nil || time.Since(info.ModTime()) < syncAfter || info.ModTime().Before(since) {
		return
	}
	s.sync.Go(func() {
		start := time.Now()
		f, err := os.Open(s.dir)
		if err != nil {
			return
		}
		defer f.Close()
		if unix.Syncfs(int(f.Fd())) == nil {
			s.markSynced(boot, start) //nolint:errcheck // the next build tries again
		}
	})
}

// dropNewerThan removes everything whose inode changed after t.
func (s *Store) dropNewerThan(t time.Time) error {
	for _, pattern := range []string{"blobs/sha256/*", "layers/*", "records/*/*", "facts/*/*/*", "contexts/*", "refs/*"} {
		paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			return err
		}
		for _, p := range paths {
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return &fs.PathError{Op: "lstat", Path: p, Err: err}
			}
			if time.Unix(st.Ctim.Unix()).After(t) {
				if err := removeAll(p); err != nil {
					return fmt.Errorf("drop what the last boot left unsynced: %w", err)
				}
			}
		}
	}
	return nil
}

package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"stagecraft/internal/oci"
)

// ErrNotFound says that the store does not hold what was asked for, or holds
// it damaged, which is the same.
var ErrNotFound = errors.New("not in the store")

const formatVersion = "stagecraft store 1\n"

// Store is an open store. It is safe for use by many goroutines, and the
// directory by many processes.
type Store struct {
	dir   string
	lease *lease
	temp  atomic.Int64 // names within the lease's directory
	dirty sync.Once
	sync  sync.WaitGroup
}

// Open opens the store in dir, making it where it is missing, and clears away
// what processes that are gone have left behind.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	for _, sub := range []string{"blobs/sha256", "layers", "records", "facts", "contexts", "refs", "locks", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open store %s: %w", dir, reason(err))
		}
	}
	s := &Store{dir: dir}
	if err := s.checkVersion(); err != nil {
		return nil, err
	}
	if s.lease, err = s.takeLease(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, reason(err))
	}
	if err := s.recoverFromReboot(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

// Close removes the process's temporary directory and gives up its lease.
func (s *Store) Close() error {
	s.sync.Wait()
	return s.lease.release()
}

// Dir is the store's directory, absolute.
func (s *Store) Dir() string { return s.dir }

func (s *Store) checkVersion() error {
	path := filepath.Join(s.dir, "version")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Not through the lease: there is none yet, and any process that
		// comes first writes the same bytes.
		tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := os.WriteFile(tmp, []byte(formatVersion), 0o600); err != nil {
			os.Remove(tmp)
			return fmt.Errorf("open store %s: %w", s.dir, reason(err))
		}
		return os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("open store %s: %w", s.dir, err)
	}
	if string(b) != formatVersion {
		return fmt.Errorf("open store %s: it has format %q, this program writes %q; "+
			"use another directory with STAGECRAFT_ROOT", s.dir,
			strings.TrimSpace(string(b)), strings.TrimSpace(formatVersion))
	}
	return nil
}

// TempDir makes a directory on the store's file system, for work that is
// committed by rename. It goes away with the process at the latest.
func (s *Store) TempDir(pattern string) (string, error) {
	dir := s.tempPath(pattern)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("temporary directory: %w", err)
	}
	return dir, nil
}

// RemoveTemp removes a directory that TempDir made before the process ends. One
// that is gone, by a commit say, is no error.
func (s *Store) RemoveTemp(dir string) error {
	if err := removeAll(dir); err != nil {
		return fmt.Errorf("remove temporary directory: %w", err)
	}
	return nil
}

// Full reports whether the store's file system has no more room, in bytes or
// inodes, than a few small files take.
func (s *Store) Full() bool {
	const few = 16 // files of a page or so
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return false
	}
	return fs.Bavail*uint64(fs.Bsize) < few*4096 || fs.Files > 0 && fs.Ffree < few
}

// ContextPath is the file that belongs to the build context in dir, for what
// is remembered of its files between builds. Its format is the caller's.
func (s *Store) ContextPath(dir string) string {
	return filepath.Join(s.dir, "contexts", oci.FromBytes([]byte(dir)).Encoded())
}

// tempPath is a name in the lease's directory that no one else uses.
func (s *Store) tempPath(pattern string) string {
	return filepath.Join(s.lease.dir, fmt.Sprintf("%s-%d", pattern, s.temp.Add(1)))
}

// reason drops the path from a file system error whose path the caller has
// said already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", filepath.Base(pe.Path), pe.Err)
	}
	return err
}

package tree

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stagecraft/internal/oci"
)

// scanBatch is how many files one worker takes at a time.
const scanBatch = 64

// Scan reads an overlay-ready directory into a manifest. Regular files are
// hashed on several CPUs. Sockets are skipped. Two names of one inode become a
// file and a hard link.
//
// The directory must not change meanwhile; a file whose size changes is an
// error.
func Scan(ctx context.Context, dir string) (*Manifest, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	defer root.release()
	s := &scanner{
		root:  root,
		dir:   dir,
		buf:   make([]byte, 32<<10),
		first: map[inodeID]int{},
		work:  make(chan *scanJob, 4),
	}
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error { return s.hash(ctx) })
	}
	group.Go(func() error {
		defer close(s.work)
		if err := s.directory(ctx, "."); err != nil {
			return err
		}
		return s.dispatch(ctx)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, job := range s.jobs {
		for k, f := range job.files {
			e := &s.entries[f.index]
			e.Digest, e.Xattrs = job.digests[k], job.xattrs[k]
		}
	}
	return &Manifest{Entries: s.entries}, nil
}

// inodeID names a file of this machine.
type inodeID struct{ dev, ino uint64 }

type scanner struct {
	root    *dirHandle
	dir     string // for errors
	buf     []byte
	entries []Entry
	first   map[inodeID]int // files with several names -> index of the first
	job     *scanJob        // being filled
	jobs    []*scanJob
	work    chan *scanJob
}

// scanJob is a batch of files to hash. Results stay here, because the entries
// move in memory while the walk goes on.
type scanJob struct {
	files   []scanFile
	digests []oci.Digest
	xattrs  []map[string]string
}

type scanFile struct {
	path  string
	size  int64
	index int
}

// directory adds the directory at path and all below it.
func (s *scanner) directory(ctx context.Context, path string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	fd, err := s.root.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return s.fail(path, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = s.addDir(path, fd, &st)
	}
	var names []string
	if err == nil {
		names, err = readNames(fd, s.buf)
	}
	defer unix.Close(fd)
	if err != nil {
		return s.fail(path, err)
	}
	for _, name := range names {
		child := joinPath(path, name)
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return s.fail(child, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := s.directory(ctx, child); err != nil {
				return err
			}
			continue
		}
		if err := s.add(ctx, fd, name, child, &st); err != nil {
			return s.fail(child, err)
		}
	}
	return nil
}

func (s *scanner) fail(path string, err error) error {
	return fmt.Errorf("scan: %w", &fs.PathError{Op: "read", Path: filepath.Join(s.dir, path), Err: err})
}

func (s *scanner) addDir(path string, fd int, st *unix.Stat_t) error {
	xattrs, opaque, err := readXattrs(fd, s.buf)
	e := entryOf(path, st)
	e.Xattrs, e.Opaque = xattrs, opaque
	s.entries = append(s.entries, e)
	return err
}

// add adds one entry that is no directory.
func (s *scanner) add(ctx context.Context, parent int, name, path string, st *unix.Stat_t) error {
	e := entryOf(path, st)
	if e.Kind == 0 {
		return nil
	}
	if e.Kind == KindSymlink {
		target, err := readLink(parent, name, st.Size)
		if err != nil {
			return err
		}
		e.Link = target
	}
	if st.Nlink > 1 && linkable(e.Kind) {
		id := inodeID{st.Dev, st.Ino}
		if i, ok := s.first[id]; ok {
			s.entries = append(s.entries, Entry{Path: path, Kind: KindHardlink, Link: s.entries[i].Path})
			return nil
		}
		s.first[id] = len(s.entries)
	}
	s.entries = append(s.entries, e)
	if e.Kind != KindFile {
		return nil
	}
	if s.job == nil {
		s.job = &scanJob{files: make([]scanFile, 0, scanBatch)}
	}
	s.job.files = append(s.job.files, scanFile{path: path, size: e.Size, index: len(s.entries) - 1})
	if len(s.job.files) < scanBatch {
		return nil
	}
	return s.dispatch(ctx)
}

// dispatch hands the batch to a worker.
func (s *scanner) dispatch(ctx context.Context) error {
	if s.job == nil {
		return nil
	}
	s.job.digests = make([]oci.Digest, len(s.job.files))
	s.job.xattrs = make([]map[string]string, len(s.job.files))
	select {
	case s.work <- s.job:
		s.jobs = append(s.jobs, s.job)
		s.job = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hash is one worker.
func (s *scanner) hash(ctx context.Context) error {
	h := newHasher()
	for job := range s.work {
		for i, f := range job.files {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			fd, err := s.root.open(f.path, unix.O_RDONLY|unix.O_NONBLOCK)
			if err != nil {
				return s.fail(f.path, err)
			}
			job.xattrs[i], _, err = readXattrs(fd, h.buf)
			if err == nil {
				job.digests[i], err = h.file(fd, f.size)
			}
			unix.Close(fd)
			if err != nil {
				return s.fail(f.path, err)
			}
		}
	}
	return nil
}

// entryOf describes what stat says; Kind is 0 for sockets. Size is that of
// regular files only.
func entryOf(path string, st *unix.Stat_t) Entry {
	e := Entry{Path: path, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = KindFile, st.Size
	case unix.S_IFDIR:
		e.Kind = KindDir
	case unix.S_IFLNK:
		e.Kind, e.Mode = KindSymlink, 0o777
	case unix.S_IFIFO:
		e.Kind = KindFifo
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return Entry{Path: path, Kind: KindWhiteout}
		}
		e.Kind, e.Major, e.Minor = KindChar, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		e.Kind, e.Major, e.Minor = KindBlock, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return e
}

// readLink reads a symlink whose size stat gave.
func readLink(parent int, name string, size int64) (string, error) {
	for n := max(int(size)+1, 64); ; n *= 2 {
		buf := make([]byte, n)
		got, err := unix.Readlinkat(parent, name, buf)
		if err != nil {
			return "", err
		}
		if got < n {
			return string(buf[:got]), nil
		}
	}
}

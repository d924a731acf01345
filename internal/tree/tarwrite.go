package tree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	xattrRecord    = "SCHILY.xattr."
)

// Read-ahead of [WriteTar]: files up to smallFile bytes are read by workers in
// batches, bounded in entries and bytes; larger ones are streamed.
const (
	smallFile    = 256 << 10
	batchEntries = 128
	batchBytes   = 1 << 20
)

// CorruptError says that a tree on disk is no longer what its manifest says.
type CorruptError struct {
	Path   string // relative to the tree
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("layer file %q is corrupt: %s", e.Path, e.Reason)
}

// WriteTar writes an overlay-ready directory as an OCI layer tar. The bytes
// depend on the manifest, the contents and the modification times (in whole
// seconds) only: entries come in the order of the manifest, owners are numbers,
// PAX records are used only where the plain header does not suffice.
//
// Contents are held against the manifest while they are written; a difference
// ends the tar with a *[CorruptError].
func WriteTar(ctx context.Context, w io.Writer, dir string, m *Manifest) error {
	root, err := openRoot(dir)
	if err != nil {
		return fmt.Errorf("write layer tar: %w", err)
	}
	defer root.release()
	t := &tarWriter{
		root:     root,
		dir:      dir,
		manifest: m,
		entries:  m.Entries,
		tar:      tar.NewWriter(w),
		order:    make(chan *tarBatch, 2*runtime.GOMAXPROCS(0)),
		work:     make(chan *tarBatch),
		hasher:   newHasher(),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.cut(ctx) })
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error { return t.readAhead(ctx) })
	}
	group.Go(func() error { return t.write(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("write layer tar: %w", err)
	}
	return nil
}

type tarWriter struct {
	root     *dirHandle
	dir      string // for errors
	manifest *Manifest
	entries  []Entry // of the manifest
	tar      *tar.Writer
	order    chan *tarBatch // as they are to be written
	work     chan *tarBatch // to be read ahead
	hasher   *hasher
}

// tarBatch is a run of entries and what the disk knows of them.
type tarBatch struct {
	from, to int // entries[from:to]
	size     int64
	done     chan struct{}
	mtimes   []time.Time
	data     [][]byte // content of small files
	err      error
}

// cut divides the entries into batches.
func (t *tarWriter) cut(ctx context.Context) error {
	defer close(t.order)
	defer close(t.work)
	for from := 0; from < len(t.entries); {
		b := &tarBatch{from: from, to: from, done: make(chan struct{})}
		for b.to < len(t.entries) && b.to-b.from < batchEntries && b.size < batchBytes {
			if e := &t.entries[b.to]; e.Size <= smallFile {
				b.size += e.Size
			}
			b.to++
		}
		from = b.to
		for _, c := range []chan *tarBatch{t.order, t.work} {
			select {
			case c <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// readAhead is one worker. What goes wrong is reported where the entry would
// have been written, so that the first error in tar order is the one returned.
func (t *tarWriter) readAhead(ctx context.Context) error {
	for b := range t.work {
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		b.mtimes = make([]time.Time, b.to-b.from)
		b.data = make([][]byte, b.to-b.from)
		buf := make([]byte, b.size)
		for i := b.from; i < b.to && b.err == nil; i++ {
			e := &t.entries[i]
			var data []byte
			if e.Kind == KindFile && e.Size <= smallFile {
				data, buf = buf[:e.Size:e.Size], buf[e.Size:]
			}
			b.mtimes[i-b.from], b.err = t.load(e, data)
			b.data[i-b.from] = data
		}
		close(b.done)
	}
	return nil
}

// load returns the modification time of e and, where data is not nil, fills it
// with the verified content.
func (t *tarWriter) load(e *Entry, data []byte) (time.Time, error) {
	if e.Kind == KindWhiteout {
		return time.Unix(0, 0), nil
	}
	if e.Kind == KindHardlink {
		first := t.manifest.Find(e.Link)
		if first == nil || !linkable(first.Kind) {
			return time.Time{}, fmt.Errorf("hard link %q: %q is not in the manifest", e.Path, e.Link)
		}
		meta := *first
		meta.Path = e.Path
		e = &meta
	}
	flags := unix.O_PATH
	if data != nil {
		flags = unix.O_RDONLY | unix.O_NONBLOCK
	}
	fd, st, err := t.openEntry(e, flags)
	if err != nil {
		return time.Time{}, err
	}
	defer unix.Close(fd)
	if data != nil {
		if err := readFull(fd, data); err != nil {
			return time.Time{}, &CorruptError{e.Path, err.Error()}
		}
		if got := digestBytes(data); got != e.Digest {
			return time.Time{}, &CorruptError{e.Path, fmt.Sprintf("content is %s, not %s", got, e.Digest)}
		}
	}
	return time.Unix(st.Mtim.Sec, 0), nil
}

// openEntry opens what the manifest lists and checks that it is still of that
// kind and size.
func (t *tarWriter) openEntry(e *Entry, flags int) (fd int, st unix.Stat_t, err error) {
	fd, err = t.root.open(e.Path, flags)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
		return -1, st, &CorruptError{e.Path, err.Error()}
	default:
		return -1, st, fmt.Errorf("open %s: %w", filepath.Join(t.dir, e.Path), err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, fmt.Errorf("stat %s: %w", filepath.Join(t.dir, e.Path), err)
	}
	if disk := entryOf(e.Path, &st); disk.Kind != e.Kind || disk.Size != e.Size {
		unix.Close(fd)
		return -1, st, &CorruptError{e.Path, fmt.Sprintf("is of kind %c and %d bytes, not %c and %d", disk.Kind, disk.Size, e.Kind, e.Size)}
	}
	return fd, st, nil
}

// write writes the batches in order.
func (t *tarWriter) write(ctx context.Context) error {
	for b := range t.order {
		select {
		case <-b.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for i := b.from; i < b.to; i++ {
			if b.mtimes[i-b.from].IsZero() {
				return b.err
			}
			if err := t.entry(ctx, &t.entries[i], b.mtimes[i-b.from], b.data[i-b.from]); err != nil {
				return err
			}
		}
	}
	if context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return t.tar.Close()
}

func (t *tarWriter) entry(ctx context.Context, e *Entry, mtime time.Time, data []byte) error {
	meta := e
	if e.Kind == KindHardlink { // readers set owner and mode from it, as from any header
		meta = t.manifest.Find(e.Link)
	}
	h, err := tarHeader(e, meta, mtime)
	if err != nil {
		return err
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("entry %q: %w", e.Path, err)
	}
	switch {
	case e.Kind == KindFile && data != nil:
		_, err = t.tar.Write(data)
	case e.Kind == KindFile:
		err = t.stream(ctx, e)
	case e.Opaque:
		err = t.tar.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: joinPath(e.Path, opaqueName), Mode: 0o600, ModTime: time.Unix(0, 0),
		})
	}
	return err
}

// stream writes a large file.
func (t *tarWriter) stream(ctx context.Context, e *Entry) error {
	fd, _, err := t.openEntry(e, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	t.hasher.sum.Reset()
	for left := e.Size; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := t.hasher.buf[:min(left, int64(len(t.hasher.buf)))]
		if err := readFull(fd, p); err != nil {
			return &CorruptError{e.Path, err.Error()}
		}
		t.hasher.sum.Write(p)
		if _, err := t.tar.Write(p); err != nil {
			return err
		}
		left -= int64(len(p))
	}
	if got := t.hasher.digest(); got != e.Digest {
		return &CorruptError{e.Path, fmt.Sprintf("content is %s, not %s", got, e.Digest)}
	}
	return nil
}

// tarHeader is the header of e in OCI form, with the owner, mode and attributes
// of meta.
func tarHeader(e, meta *Entry, mtime time.Time) (*tar.Header, error) {
	if strings.HasPrefix(e.Name(), whiteoutPrefix) {
		return nil, fmt.Errorf("entry %q: names starting with %q are reserved by the OCI layer format", e.Path, whiteoutPrefix)
	}
	h := &tar.Header{Name: e.Path, Mode: int64(meta.Mode), Uid: meta.UID, Gid: meta.GID, ModTime: mtime}
	switch e.Kind {
	case KindFile:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case KindDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case KindSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case KindHardlink:
		h.Typeflag, h.Linkname = tar.TypeLink, e.Link
	case KindChar, KindBlock:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.Major), int64(e.Minor)
		if e.Kind == KindBlock {
			h.Typeflag = tar.TypeBlock
		}
	case KindFifo:
		h.Typeflag = tar.TypeFifo
	case KindWhiteout:
		h.Typeflag, h.Mode = tar.TypeReg, 0o600
		h.Name = joinPath(parentPath(e.Path), whiteoutPrefix+e.Name())
	default:
		return nil, fmt.Errorf("entry %q: unknown kind %q", e.Path, byte(e.Kind))
	}
	if len(meta.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(meta.Xattrs))
		for name, value := range meta.Xattrs {
			h.PAXRecords[xattrRecord+name] = value
		}
	}
	return h, nil
}

package tree

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxZstdWindow bounds, in bytes, the memory that a zstd stream can ask for.
const maxZstdWindow = 128 << 20

// decompress recognises gzip, bzip2, xz and zstd by their first bytes; anything
// else is passed on as it is.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, ioBuffer)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		x, err := xz.NewReader(b)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]>>4 == 5 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// isArchive reports whether a node is a tar archive, perhaps compressed, that
// begins with a readable header. A file that only looks like one is no archive,
// and no error.
func isArchive(src Source, n *Node) (bool, error) {
	if n.Kind != KindFile {
		return false, nil
	}
	f, err := src.Open(n)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, err := decompress(f)
	if err != nil {
		return false, nil
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil, nil
}

// extract unpacks the archive n into the directory dest, which exists or is
// made. Unlike a layer it goes into what is there: existing symlinks on the way
// are followed inside dest, directories are merged, other things replaced.
func (b *Builder) extract(s *Selection, m *match, dest string) error {
	dir, _, err := b.resolve(dest, true)
	if err != nil {
		return err
	}
	if _, err := b.ensureDir(dir, parentMode(nil), s.options.Owner); err != nil {
		return err
	}
	f, err := s.source.Open(m.node())
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress(f)
	if err != nil {
		return fmt.Errorf("archive %q: %w", m.name, err)
	}
	defer r.Close()
	x := archiveExtractor{
		extractor: extractor{w: b.w, o: ExtractOptions{MaxBytes: defaultMaxBytes, MaxEntries: defaultMaxEntries}, tar: tar.NewReader(r)},
		b:         b, dest: dir, owner: s.options.Owner,
	}
	x.place = x.entryInto
	if err := x.all(b.ctx); err != nil {
		return fmt.Errorf("archive %q: %w", m.name, err)
	}
	return nil
}

// archiveExtractor unpacks into a builder.
type archiveExtractor struct {
	extractor
	b     *Builder
	dest  string // resolved
	owner *Owner
}

// entryInto writes one entry.
func (x *archiveExtractor) entryInto(h *tar.Header) error {
	rel, err := entryPath(h.Name)
	if err != nil {
		return err
	}
	ino, err := x.inode(h)
	if err != nil {
		return err
	}
	if x.owner != nil {
		ino.UID, ino.GID = x.owner.UID, x.owner.GID
	}
	if rel == "." {
		if ino.Kind != KindDir {
			return &HostileError{h.Name, "the root is not a directory"}
		}
		return nil // the destination keeps what it is
	}
	dir, err := x.inside(parentPath(rel))
	if err != nil {
		return err
	}
	parent, err := x.b.ensureDir(dir, parentMode(nil), nil)
	if err != nil {
		return err
	}
	name := baseName(rel)
	if h.Typeflag == tar.TypeLink {
		return x.linkInto(h, parent, name)
	}
	if ino.Kind == KindDir {
		_, err := x.b.putDir(parent, name, ino, true)
		return err
	}
	if err := x.b.clear(parent, name, true); err != nil {
		return err
	}
	if ino.Kind == KindFile {
		return x.w.file(parent, name, ino, x.tar, isSparse(h))
	}
	return x.w.special(parent, name, ino)
}

// inside resolves a path below the destination, which symlinks do not leave.
func (x *archiveExtractor) inside(rel string) (string, error) {
	p, err := resolve(rel, true, func(p string) (Kind, string, error) { return x.b.peek(joinPaths(x.dest, p)) })
	if err != nil && !errors.Is(err, errMissing) {
		return "", err
	}
	return joinPaths(x.dest, p), nil
}

// linkInto makes a hard link to a file that the archive brought.
func (x *archiveExtractor) linkInto(h *tar.Header, parent *node, name string) error {
	rel, err := entryPath(h.Linkname)
	if err != nil {
		return &HostileError{h.Name, fmt.Sprintf("hard link to %.200q, which leads out of the root", h.Linkname)}
	}
	dir, err := x.inside(parentPath(rel))
	if err != nil {
		return err
	}
	target := x.w.lookup(joinPath(dir, baseName(rel)))
	if target == nil || !linkable(target.ino.Kind) {
		return &HostileError{h.Name, fmt.Sprintf("hard link to %.200q, which the archive does not have", h.Linkname)}
	}
	if parent.children[name] == target {
		return nil
	}
	if err := x.b.clear(parent, name, true); err != nil {
		return err
	}
	return x.w.link(parent, name, target)
}

package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"stagecraft/internal/tree"
)

// WriteRootTar writes the root file system that layers make, lowest first, as
// one tar: with owners, times and extended attributes, without whiteouts, names
// sorted. The same layers give the same bytes.
func WriteRootTar(ctx context.Context, layers []tree.Layer, w io.Writer) error {
	files, err := openRootFiles(layers)
	if err != nil {
		return fmt.Errorf("write root file system: %w", err)
	}
	defer files.Close()
	t := &rootTar{files: files, tar: tar.NewWriter(w), buf: make([]byte, 256<<10)}
	err = files.view.Walk(".", func(n *tree.Node) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return t.entry(n)
	})
	if err == nil {
		err = t.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("write root file system: %w", err)
	}
	return nil
}

type rootTar struct {
	files *rootFiles
	tar   *tar.Writer
	buf   []byte
}

func (t *rootTar) entry(n *tree.Node) error {
	if n.Path == "." {
		return nil // its owner and mode are for the reader's own directory to have
	}
	mtime, err := t.files.modTime(n)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: n.Path, Mode: int64(n.Mode), Uid: n.UID, Gid: n.GID, ModTime: mtime}
	for name, value := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	if first := t.files.linkTo(n); first != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return t.tar.WriteHeader(h)
	}
	switch n.Kind {
	case tree.KindFile:
		return t.file(h, n)
	case tree.KindDir:
		h.Typeflag, h.Name = tar.TypeDir, n.Path+"/"
	case tree.KindSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Link
	case tree.KindFifo:
		h.Typeflag = tar.TypeFifo
	case tree.KindChar, tree.KindBlock:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(n.Major), int64(n.Minor)
		if n.Kind == tree.KindBlock {
			h.Typeflag = tar.TypeBlock
		}
	default:
		return fmt.Errorf("entry %q: unknown kind %q", n.Path, byte(n.Kind))
	}
	return t.tar.WriteHeader(h)
}

func (t *rootTar) file(h *tar.Header, n *tree.Node) error {
	r, err := t.files.open(n)
	if err != nil {
		return err
	}
	defer r.Close()
	h.Typeflag, h.Size = tar.TypeReg, n.Size
	if err := t.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("entry %q: %w", n.Path, err)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{t.tar}, r, t.buf)
	return err
}

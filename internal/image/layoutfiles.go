package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"stagecraft/internal/oci"
)

// layoutFiles are the files of an OCI layout, by slash-separated name, in a
// directory or in a tar archive. No symlink leads out of either.
type layoutFiles interface {
	open(name string) (io.ReadCloser, error) // fs.ErrNotExist
	names() ([]string, error)                // of all regular files, sorted
	Close() error
}

// openLayoutFiles opens a directory or an archive.
func openLayoutFiles(where string) (layoutFiles, error) {
	info, err := os.Stat(where)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(where)
		if err != nil {
			return nil, err
		}
		return layoutDir{root}, nil
	}
	return openLayoutTar(where)
}

type layoutDir struct{ root *os.Root }

func (d layoutDir) Close() error { return d.root.Close() }

func (d layoutDir) open(name string) (io.ReadCloser, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d layoutDir) names() ([]string, error) {
	var names []string
	err := fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// layoutTar is an archive whose members have been located, so that each can be
// read without the others.
type layoutTar struct {
	f       *os.File
	members map[string]*io.SectionReader
}

func openLayoutTar(where string) (*layoutTar, error) {
	f, err := os.Open(where)
	if err != nil {
		return nil, err
	}
	t := &layoutTar{f: f, members: map[string]*io.SectionReader{}}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			f.Close()
			return nil, &InvalidError{where, "is neither a directory nor a tar archive: " + err.Error()}
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			f.Close()
			return nil, err
		}
		t.members[path.Clean(h.Name)] = io.NewSectionReader(f, offset, h.Size)
	}
}

func (t *layoutTar) Close() error { return t.f.Close() }

func (t *layoutTar) open(name string) (io.ReadCloser, error) {
	m, ok := t.members[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(m, 0, m.Size())), nil
}

func (t *layoutTar) names() ([]string, error) {
	var names []string
	for name := range t.members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// blobName is the name of a blob's file in a layout.
func blobName(d oci.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// readSmall reads a file that must not be larger than limit bytes.
func readSmall(files layoutFiles, name string, limit int64) ([]byte, error) {
	r, err := files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New(name + " is too large")
	}
	return b, err
}

package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"stagecraft/internal/tree"
)

// writeFiles writes the files of a root into the directory dest, over what is
// there: the output type local. They are written beside it first, so an error
// leaves dest as it was.
func writeFiles(ctx context.Context, root *tree.View, dest string) error {
	dest = filepath.Clean(dest)
	tmp, err := os.MkdirTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := copyOut(ctx, root, tmp); err != nil {
		return err
	}
	return moveInto(tmp, dest)
}

// writeTar writes the files of a root as one archive: the output type tar.
func (e *exporter) writeTar(ctx context.Context, root *tree.View, f *os.File) error {
	tmp, err := e.Store.TempDir("tar")
	if err != nil {
		return err
	}
	m, err := copyOut(ctx, root, tmp)
	if err == nil {
		err = tree.WriteTar(ctx, f, tmp, m)
	}
	return errors.Join(err, e.Store.RemoveTemp(tmp))
}

// copyOut copies all of a root into the empty directory dir. Nothing there is
// linked to the store.
func copyOut(ctx context.Context, root *tree.View, dir string) (*tree.Manifest, error) {
	sel, err := tree.Select(ctx, root, tree.CopyOptions{Sources: []string{"/"}, Dest: "/"})
	if err != nil {
		return nil, err
	}
	b, err := tree.OpenBuilder(ctx, nil, dir)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := b.Copy(sel); err != nil {
		return nil, err
	}
	return b.Finish()
}

// moveInto moves src to dest; where both are directories, what is in src.
func moveInto(src, dest string) error {
	from, err := os.Lstat(src)
	if err != nil {
		return err
	}
	to, err := os.Lstat(dest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(src, dest)
	case err != nil:
		return err
	case !from.IsDir() && !to.IsDir():
		return os.Rename(src, dest)
	case !from.IsDir() || !to.IsDir():
		if err := os.RemoveAll(dest); err != nil {
			return err
		}
		return os.Rename(src, dest)
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := moveInto(filepath.Join(src, e.Name()), filepath.Join(dest, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

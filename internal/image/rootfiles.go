package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
	"stagecraft/internal/tree"
)

// WriteFiles writes the root file system that layers make, lowest first, into
// the directory dest. A new directory appears whole; in an existing one files
// are replaced and others stay.
//
// The files are for the user who runs this: they belong to this user, and have
// their modes and times, but no extended attributes. No symlink leads the
// writing out of dest.
func WriteFiles(ctx context.Context, layers []tree.Layer, dest string) error {
	fill := func(dir string) error { return fillDir(ctx, layers, dir) }
	_, err := os.Stat(dest)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeDir(dest, fill)
	} else if err == nil {
		err = fill(dest)
	}
	if err != nil {
		return fmt.Errorf("write files to %s: %w", dest, err)
	}
	return nil
}

func fillDir(ctx context.Context, layers []tree.Layer, dir string) error {
	files, err := openRootFiles(layers)
	if err != nil {
		return err
	}
	defer files.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	d := &dirFiller{files: files, root: root, buf: make([]byte, 256<<10)}
	err = files.view.Walk(".", func(n *tree.Node) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n.Path == "." {
			return nil
		}
		if err := d.put(n); err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.sealDirs()
}

// dirFiller puts files into a directory.
type dirFiller struct {
	files *rootFiles
	root  *os.Root
	dirs  []madeDir
	buf   []byte
}

// madeDir is a directory whose mode and time are set when it is full.
type madeDir struct {
	path  string
	mode  fs.FileMode
	mtime time.Time
}

func (d *dirFiller) put(n *tree.Node) error {
	mtime, err := d.files.modTime(n)
	if err != nil {
		return err
	}
	if n.IsDir() {
		return d.dir(n, mtime)
	}
	if err := d.root.RemoveAll(n.Path); err != nil {
		return err
	}
	if first := d.files.linkTo(n); first != "" {
		return d.root.Link(first, n.Path)
	}
	switch n.Kind {
	case tree.KindFile:
		return d.file(n, mtime)
	case tree.KindSymlink:
		return d.root.Symlink(n.Link, n.Path)
	}
	return d.node(n)
}

func (d *dirFiller) dir(n *tree.Node, mtime time.Time) error {
	info, err := d.root.Lstat(n.Path)
	if err == nil && !info.IsDir() {
		if err := d.root.Remove(n.Path); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = d.root.Mkdir(n.Path, 0o700)
	}
	if err != nil {
		return err
	}
	d.dirs = append(d.dirs, madeDir{n.Path, fileMode(n.Mode), mtime})
	return nil
}

func (d *dirFiller) file(n *tree.Node, mtime time.Time) error {
	r, err := d.files.open(n)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := d.root.OpenFile(n.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, r, d.buf)
	if err == nil {
		err = f.Chmod(fileMode(n.Mode))
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = d.root.Chtimes(n.Path, mtime, mtime)
	}
	return err
}

// node makes a device or a pipe.
func (d *dirFiller) node(n *tree.Node) error {
	mode := n.Mode
	switch n.Kind {
	case tree.KindFifo:
		mode |= unix.S_IFIFO
	case tree.KindChar:
		mode |= unix.S_IFCHR
	case tree.KindBlock:
		mode |= unix.S_IFBLK
	default:
		return fmt.Errorf("unknown kind %q", byte(n.Kind))
	}
	parent, err := d.root.Open(path.Dir(n.Path))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Mknodat(int(parent.Fd()), n.Name(), mode, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
		return err
	}
	return d.root.Chmod(n.Path, fileMode(n.Mode))
}

// sealDirs sets modes and times, of the innermost first: writing into a
// directory changes its time, and its mode may forbid it.
func (d *dirFiller) sealDirs() error {
	for i := len(d.dirs) - 1; i >= 0; i-- {
		dir := d.dirs[i]
		if err := d.root.Chmod(dir.path, dir.mode); err != nil {
			return err
		}
		if err := d.root.Chtimes(dir.path, dir.mtime, dir.mtime); err != nil {
			return err
		}
	}
	return nil
}

// fileMode converts unix permission bits.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

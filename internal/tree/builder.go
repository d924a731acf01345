package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Builder writes one layer over a base: copies, directories and files. It reads
// destinations as they would be in the running root, base and own writes merged,
// and resolves symlinks inside it. Directories of the base that the layer must
// hold, because something inside changes, keep their owner, mode and times.
//
// It is for one goroutine. Finish or Close ends it; after an error only Close is
// of use.
type Builder struct {
	ctx  context.Context // of the whole work, as its workers run between calls
	base *View
	w    *layerWriter
	now  unix.Timespec
}

// OpenBuilder begins a layer over base (nil: nothing) in dir, an empty
// directory. ctx ends all work of the builder.
func OpenBuilder(ctx context.Context, base *View, dir string) (*Builder, error) {
	w, err := newLayerWriter(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("new layer: %w", err)
	}
	if base == nil {
		base = NewView(nil)
	}
	b := &Builder{ctx: ctx, base: base, w: w, now: unix.Timespec{Sec: time.Now().Unix()}}
	root, refs := base.root()
	if w.top.ino, err = b.baseDir(root); err != nil {
		w.close()
		return nil, fmt.Errorf("new layer: %w", err)
	}
	w.top.lower = refs
	return b, nil
}

// Close abandons or ends the work and releases all resources. The directory
// stays.
func (b *Builder) Close() { b.w.close() }

// Finish completes the layer and returns its manifest. A layer to which nothing
// was written holds its root only.
func (b *Builder) Finish() (*Manifest, error) {
	defer b.w.close()
	m, err := b.w.finish()
	if err != nil {
		return nil, fmt.Errorf("new layer: %w", err)
	}
	return m, nil
}

// Mkdir makes a directory and its missing parents, all with the given mode
// (permission bits) and owner (nil: root). What exists stays as it is.
func (b *Builder) Mkdir(path string, mode uint32, owner *Owner) error {
	p, _, err := b.resolve(path, true)
	if err == nil {
		if kind, _, err := b.peek(p); err == nil && kind == KindDir {
			return nil
		}
		_, err = b.ensureDir(p, mode&0o777, owner)
	}
	if err != nil {
		return fmt.Errorf("mkdir %s: %w", path, err)
	}
	return nil
}

// WriteFile writes a file called name to dest by the rules of a copy: into dest
// if that is a directory or ends in a slash, else as dest. Missing parents get
// the owner and, where one is given, the mode.
func (b *Builder) WriteFile(dest, name string, data []byte, mode uint32, owner *Owner) error {
	err := b.writeFile(dest, name, data, mode, owner)
	if err != nil {
		return fmt.Errorf("write %s: %w", dest, err)
	}
	return nil
}

func (b *Builder) writeFile(dest, name string, data []byte, mode uint32, owner *Owner) error {
	target, err := b.destination(dest, name, false, parentMode(nil), owner)
	if err != nil {
		return err
	}
	ino := &inode{Entry: Entry{Kind: KindFile, Mode: mode & 0o7777, Size: int64(len(data))}, mtime: b.now}
	if owner != nil {
		ino.UID, ino.GID = owner.UID, owner.GID
	}
	parent, err := b.ensureDir(parentPath(target), parentMode(nil), owner)
	if err != nil {
		return err
	}
	if err := b.clear(parent, baseName(target), false); err != nil {
		return err
	}
	return b.w.file(parent, baseName(target), ino, strings.NewReader(string(data)), false)
}

// errMissing is what peek returns for what is not there.
var errMissing = fs.ErrNotExist

// peek looks up a clean path in the merged root.
func (b *Builder) peek(path string) (Kind, string, error) {
	n := b.w.top
	if path == "." {
		return KindDir, "", nil
	}
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		name := baseName(path[:i])
		child := n.children[name]
		if child == nil {
			return b.peekBase(n.lower, path, i)
		}
		n = child
	}
	if n.ino.Kind == KindWhiteout {
		return 0, "", errMissing
	}
	return n.ino.Kind, n.ino.Link, nil
}

// peekBase goes on in the base, from the component of path that ends at end.
func (b *Builder) peekBase(refs dirRefs, path string, end int) (Kind, string, error) {
	for i := end; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		var n *Node
		if n, refs = b.base.child(refs, path[:i]); n == nil {
			return 0, "", errMissing
		}
		if i == len(path) {
			return n.Kind, n.Link, nil
		}
	}
	return 0, "", errMissing
}

// resolve follows symlinks of the merged root inside it. A missing path is no
// error: exists is false.
func (b *Builder) resolve(path string, followLast bool) (p string, exists bool, err error) {
	p, err = resolve(path, followLast, b.peek)
	if errors.Is(err, errMissing) {
		return p, false, nil
	}
	return p, err == nil, err
}

// baseDir is a directory of the base, to be repeated in the layer.
func (b *Builder) baseDir(n *Node) (*inode, error) {
	ino := &inode{Entry: n.Entry, mtime: b.now}
	ino.Path = ""
	if n.Layer < 0 {
		ino.mtime = unix.Timespec{}
		return ino, nil
	}
	dir, err := b.base.openDir(n)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, n.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: n.Path, Err: err}
	}
	ino.mtime = st.Mtim
	return ino, nil
}

// ensureDir returns the directory at a resolved path of the merged root as a
// directory of the layer. What is missing is made with mode and owner.
func (b *Builder) ensureDir(path string, mode uint32, owner *Owner) (*node, error) {
	n := b.w.top
	if path == "." {
		return n, nil
	}
	for end := 0; end < len(path); {
		if i := strings.IndexByte(path[end+1:], '/'); i < 0 {
			end = len(path)
		} else {
			end += 1 + i
		}
		child, err := b.childDir(n, path[:end])
		if err != nil {
			return nil, err
		}
		if child == nil {
			ino := &inode{Entry: Entry{Kind: KindDir, Mode: mode}, mtime: b.now}
			if owner != nil {
				ino.UID, ino.GID = owner.UID, owner.GID
			}
			if child, err = b.w.mkdir(n, baseName(path[:end]), ino); err != nil {
				return nil, err
			}
		}
		n = child
	}
	return n, nil
}

// childDir returns the child of n at path as a directory of the layer, nil if
// there is none. It is an error if something else has the name.
func (b *Builder) childDir(n *node, path string) (*node, error) {
	name := baseName(path)
	if own := n.children[name]; own != nil {
		if own.ino.Kind != KindDir {
			return nil, &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
		return own, nil
	}
	base, refs := b.base.child(n.lower, path)
	if base == nil {
		return nil, nil
	}
	if base.Kind != KindDir {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
	}
	ino, err := b.baseDir(base)
	if err != nil {
		return nil, err
	}
	own, err := b.w.mkdir(n, name, ino)
	if err != nil {
		return nil, err
	}
	own.lower = refs
	return own, nil
}

func baseName(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// joinPaths joins two clean relative paths.
func joinPaths(dir, p string) string {
	if p == "." {
		return dir
	}
	return joinPath(dir, p)
}

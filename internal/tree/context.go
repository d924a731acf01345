package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ContextOptions says how a [Context] is read.
type ContextOptions struct {
	Ignore *Ignore    // what the build does not see; nil: all is seen
	Hashes *HashCache // nil: every file is read
}

// Context is a local directory as a [Source]: the build context. What the ignore
// rules hide does not exist. Everything belongs to user 0 and group 0 and has the
// mode it has on disk; sockets are skipped. Nothing outside the directory is ever
// read: symlinks are entries, and resolved inside it.
//
// A Context is safe for concurrent use. Close it in the end.
type Context struct {
	dir    string
	root   *dirHandle
	ignore *Ignore
	hashes *HashCache
}

// OpenContext opens the directory dir.
func OpenContext(dir string, o ContextOptions) (*Context, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	return &Context{dir: dir, root: root, ignore: o.Ignore, hashes: o.Hashes}, nil
}

// Close releases the directory.
func (c *Context) Close() error {
	c.root.release()
	return nil
}

// Ignore returns the rules given to [OpenContext], to explain what is missing.
func (c *Context) Ignore() *Ignore { return c.ignore }

func (c *Context) fail(op, path string, err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return notExist(op, path)
	}
	return fmt.Errorf("build context: %w", &fs.PathError{Op: op, Path: filepath.Join(c.dir, path), Err: err})
}

// Lookup implements [Source].
func (c *Context) Lookup(path string) (*Node, error) {
	path = cleanPath(path)
	state := c.ignore.stateOf(path)
	if state.hidden && !c.ignore.mayShowBelow(path) {
		return nil, notExist("lookup", path)
	}
	fd, err := c.root.open(path, unix.O_PATH)
	if err != nil {
		return nil, c.fail("lookup", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, c.fail("lookup", path, err)
	}
	n, err := contextNode(path, &st, func() (string, error) { return readLink(fd, "", st.Size) })
	if err != nil {
		return nil, c.fail("lookup", path, err)
	}
	if n == nil {
		return nil, notExist("lookup", path)
	}
	if !state.hidden {
		return n, nil
	}
	if n.Kind == KindDir {
		if seen, err := c.showsBelow(path, state); seen || err != nil {
			return n, err
		}
	}
	return nil, notExist("lookup", path)
}

// errFound ends a walk that has seen enough.
var errFound = errors.New("found")

// showsBelow reports whether anything below a hidden directory is visible, with
// which the directory is.
func (c *Context) showsBelow(path string, state ignoreState) (bool, error) {
	w := contextWalk{c: c, fn: func(*Node) error { return errFound }}
	err := w.dir(path, state)
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// contextNode makes a node of what stat says, nil for what is skipped.
func contextNode(path string, st *unix.Stat_t, link func() (string, error)) (*Node, error) {
	n := &Node{Entry: entryOf(path, st), id: inodeID{st.Dev, st.Ino}, stat: statOf(st)}
	switch n.Kind {
	case 0:
		return nil, nil
	case KindWhiteout: // a device 0:0 of a context has no meaning for a layer
		return nil, nil
	case KindSymlink:
		var err error
		if n.Link, err = link(); err != nil {
			return nil, err
		}
	}
	n.UID, n.GID = 0, 0
	return n, nil
}

// Resolve implements [Source].
func (c *Context) Resolve(path string, followLast bool) (string, *Node, error) {
	return resolveIn(path, followLast, c.Lookup)
}

// ReadDir implements [Source].
func (c *Context) ReadDir(path string) ([]*Node, error) {
	path = cleanPath(path)
	n, err := c.Lookup(path)
	if err != nil {
		return nil, err
	}
	if n.Kind != KindDir {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: unix.ENOTDIR}
	}
	var out []*Node
	err = c.list(path, c.ignore.stateOf(path), func(n *Node, state ignoreState) error {
		if state.hidden {
			if seen, err := c.showsBelow(n.Path, state); !seen {
				return err
			}
		}
		out = append(out, n)
		return nil
	})
	return out, err
}

// Walk implements [Source].
func (c *Context) Walk(path string, fn func(*Node) error) error {
	path = cleanPath(path)
	n, err := c.Lookup(path)
	if err != nil {
		return err
	}
	if err := fn(n); err != nil || n.Kind != KindDir {
		return err
	}
	w := contextWalk{c: c, fn: fn}
	return w.dir(path, c.ignore.stateOf(path))
}

// contextWalk calls fn for what is visible. Hidden directories wait in pending
// until something visible turns up in them.
type contextWalk struct {
	c       *Context
	fn      func(*Node) error
	pending []*Node
}

// dir walks what is below a directory.
func (w *contextWalk) dir(path string, state ignoreState) error {
	return w.c.list(path, state, func(n *Node, state ignoreState) error {
		if state.hidden {
			above := len(w.pending)
			w.pending = append(w.pending, n)
			err := w.dir(n.Path, state)
			w.pending = w.pending[:min(above, len(w.pending))]
			return err
		}
		for _, p := range w.pending {
			if err := w.fn(p); err != nil {
				return err
			}
		}
		w.pending = w.pending[:0]
		if err := w.fn(n); err != nil || n.Kind != KindDir {
			return err
		}
		return w.dir(n.Path, state)
	})
}

// list calls fn for the entries of one directory, sorted by name: those that are
// visible, and hidden directories in which something may be.
func (c *Context) list(path string, state ignoreState, fn func(*Node, ignoreState) error) error {
	fd, err := c.root.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return c.fail("read", path, err)
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 8<<10))
	if err != nil {
		return c.fail("read", path, err)
	}
	for _, name := range names {
		child := joinPath(path, name)
		childState := c.ignore.enter(child, state)
		if childState.hidden && !c.ignore.mayShowBelow(child) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
			continue // removed since the directory was read
		} else if err != nil {
			return c.fail("stat", child, err)
		}
		n, err := contextNode(child, &st, func() (string, error) { return readLink(fd, name, st.Size) })
		if err != nil {
			return c.fail("stat", child, err)
		}
		if n == nil || childState.hidden && n.Kind != KindDir {
			continue
		}
		if err := fn(n, childState); err != nil {
			return err
		}
	}
	return nil
}

// Open implements [Source].
func (c *Context) Open(n *Node) (*os.File, error) { return openFile(c, n) }

func (c *Context) openDir(n *Node) (int, error) {
	fd, err := c.root.open(parentPath(n.Path), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, c.fail("open", parentPath(n.Path), err)
	}
	return fd, nil
}

// check finds changes since the node was looked up.
func (c *Context) check(n *Node, st *unix.Stat_t) error {
	if (inodeID{st.Dev, st.Ino}) != n.id || statOf(st) != n.stat {
		return errChanged
	}
	return nil
}

var errChanged = errors.New("changed while the build was reading it")

// hash reads the files that the cache does not know, on several CPUs.
func (c *Context) hash(ctx context.Context, nodes []*Node) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			h := newHasher()
			for {
				i := int(next.Add(scanBatch)) - scanBatch
				if i >= len(nodes) {
					return nil
				}
				for _, n := range nodes[i:min(i+scanBatch, len(nodes))] {
					if err := context.Cause(ctx); err != nil {
						return err
					}
					if err := c.hashNode(h, n); err != nil {
						return err
					}
				}
			}
		})
	}
	return group.Wait()
}

func (c *Context) hashNode(h *hasher, n *Node) error {
	if n.Kind != KindFile && n.Kind != KindDir || n.Digest != "" {
		return nil
	}
	if n.Kind == KindFile {
		d, plain, _ := c.hashes.lookup(n.id, n.stat)
		if n.Digest = d; plain {
			return nil
		}
	}
	now := time.Now().UnixNano()
	fd, err := c.root.open(n.Path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return fmt.Errorf("build context: %w", &fs.PathError{Op: "open", Path: filepath.Join(c.dir, n.Path), Err: err})
	}
	defer unix.Close(fd)
	if n.Xattrs, _, err = readXattrs(fd, h.buf); err != nil {
		return c.fail("read", n.Path, err)
	}
	if n.Kind == KindDir || n.Digest != "" {
		return nil
	}
	if n.Digest, err = h.file(fd, n.stat.size); err != nil {
		return c.fail("read", n.Path, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = c.check(n, &st)
	}
	if err != nil {
		return c.fail("read", n.Path, err)
	}
	n.young = n.stat.racy(now)
	var sum [32]byte
	c.hashes.store(n.id, n.stat, h.sum.Sum(sum[:0]), n.Xattrs == nil, now)
	return nil
}

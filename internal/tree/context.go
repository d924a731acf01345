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
	// A hidden directory is there if something in it is.
	if n.Kind == KindDir {
		err := c.walkDir(path, state, []*Node{n}, func(*Node) error { return errFound })
		if errors.Is(err, errFound) {
			return n, nil
		} else if err != nil {
			return nil, err
		}
	}
	return nil, notExist("lookup", path)
}

// errFound ends a walk that has seen enough.
var errFound = errors.New("found")

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

// errSkipBelow keeps a walk from going below a directory.
var errSkipBelow = errors.New("skip")

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
	err = c.walkDir(path, c.ignore.stateOf(path), nil, func(n *Node) error {
		if parentPath(n.Path) == path {
			out = append(out, n)
		}
		return errSkipBelow
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
	return c.walkDir(path, c.ignore.stateOf(path), nil, fn)
}

// walkDir walks what is below a directory. pending are the hidden directories
// above that fn has not seen: they are shown with the first visible thing in
// them.
func (c *Context) walkDir(path string, state ignoreState, pending []*Node, fn func(*Node) error) error {
	fd, err := c.root.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return c.fail("read", path, err)
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 8<<10))
	if err != nil {
		return c.fail("read", path, err)
	}
	shown := len(pending) == 0
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
		if childState.hidden {
			below := append(pending[:len(pending):len(pending)], n)
			if shown {
				below = []*Node{n}
			}
			seen := false
			if err := c.walkDir(child, childState, below, func(n *Node) error { seen = true; return fn(n) }); err != nil && err != errSkipBelow {
				return err
			}
			shown = shown || seen
			continue
		}
		if !shown {
			shown = true
			for _, p := range pending {
				if err := fn(p); err != nil {
					return err
				}
			}
		}
		if err := fn(n); err == errSkipBelow {
			continue
		} else if err != nil {
			return err
		}
		if n.Kind == KindDir {
			if err := c.walkDir(child, childState, nil, fn); err != nil {
				return err
			}
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
					if err := ctx.Err(); err != nil {
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

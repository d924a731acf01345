package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// layerWriter writes one layer in overlay form and knows all it wrote: it
// starts with an empty directory and ends with the manifest. [Extract] and
// [Builder] are policies on top of it.
//
// Nothing is ever followed: a path is walked in the tree of nodes, and a
// directory is reached through the open handle of its parent. Small files are
// written by workers in batches; directories get their owner, mode and times
// last, because work inside changes the times and may need the permission.
//
// It is for one goroutine. close must be called in the end.
type layerWriter struct {
	dir     string
	top     *node
	open    []*node // directories with an open handle, oldest first
	ids     processIDs
	workers *writePool
	scratch *hasher
}

// maxOpenDirs bounds the directories kept open between entries.
const maxOpenDirs = 128

// node is a name in the layer. Names of one file share an inode.
type node struct {
	name     string
	parent   *node
	ino      *inode
	children map[string]*node // of a directory
	handle   *dirHandle       // of a directory, while it is open
	lower    dirRefs          // what a directory is merged with, for [Builder]
}

// inode is what the names of a file share: all of an Entry but its Path, and
// the modification time. A hard link is a second node, never a KindHardlink.
type inode struct {
	Entry
	mtime unix.Timespec
	// implied says that nothing described this directory, it was only needed.
	implied bool
}

// processIDs is what new files get from the kernel, so that only differences
// need a system call.
type processIDs struct {
	uid, gid int
	umask    uint32
}

func readProcessIDs() (processIDs, error) {
	p := processIDs{uid: os.Geteuid(), gid: os.Getegid()}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32)
			p.umask = uint32(n)
			return p, err
		}
	}
	return p, errors.New("/proc/self/status: no umask")
}

// newLayerWriter opens dir, which must be an empty directory that nobody else
// uses.
func newLayerWriter(ctx context.Context, dir string) (*layerWriter, error) {
	ids, err := readProcessIDs()
	if err != nil {
		return nil, err
	}
	handle, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	names, err := readNames(handle.fd, make([]byte, 4096))
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%s: directory is not empty", dir)
	}
	if err != nil {
		handle.release()
		return nil, err
	}
	top := &node{name: ".", ino: impliedDir(), children: map[string]*node{}, handle: handle}
	return &layerWriter{
		dir: dir, top: top, ids: ids, scratch: newHasher(), workers: newWritePool(ctx, dir, ids),
	}, nil
}

// impliedDir is the directory that stands where none was described.
func impliedDir() *inode {
	return &inode{Entry: Entry{Kind: KindDir, Mode: 0o755}, implied: true}
}

// close stops the workers and closes all handles. It is safe after finish.
func (w *layerWriter) close() {
	w.workers.close()
	for _, n := range w.open {
		w.drop(n)
	}
	w.open = nil
	w.drop(w.top)
}

func (w *layerWriter) drop(n *node) {
	if n.handle != nil {
		n.handle.release()
		n.handle = nil
	}
}

// path is the path of n, relative to the layer.
func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	return joinPath(n.parent.path(), n.name)
}

// lookup finds a clean relative path among what was written.
func (w *layerWriter) lookup(path string) *node {
	n := w.top
	if path == "." {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

func (w *layerWriter) fail(n *node, name string, err error) error {
	return &fs.PathError{Op: "write", Path: filepath.Join(w.dir, n.path(), name), Err: err}
}

// dirOf is the open handle of the directory n, valid until the next call.
func (w *layerWriter) dirOf(n *node) (*dirHandle, error) {
	if n.handle != nil {
		return n.handle, nil
	}
	// Handles above may be dropped while those below are opened, so the
	// parent's is held.
	up, err := w.dirOf(n.parent)
	if err != nil {
		return nil, err
	}
	up.acquire()
	defer up.release()
	fd, err := up.openChild(n.name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, w.fail(n, "", err)
	}
	if len(w.open) >= maxOpenDirs {
		for _, old := range w.open[:maxOpenDirs/2] {
			w.drop(old)
		}
		w.open = slices.Delete(w.open, 0, maxOpenDirs/2)
	}
	n.handle = newDirHandle(fd)
	w.open = append(w.open, n)
	return n.handle, nil
}

func (n *node) add(name string, ino *inode) *node {
	child := &node{name: name, parent: n, ino: ino}
	if ino.Kind == KindDir {
		child.children = map[string]*node{}
	}
	n.children[name] = child
	return child
}

// mkdir makes a directory. Its owner, mode, times and attributes are set by
// finish and may change until then.
func (w *layerWriter) mkdir(parent *node, name string, ino *inode) (*node, error) {
	h, err := w.dirOf(parent)
	if err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(h.fd, name, 0o700); err != nil {
		return nil, w.fail(parent, name, err)
	}
	return parent.add(name, ino), nil
}

// special makes a symlink, fifo, device or whiteout.
func (w *layerWriter) special(parent *node, name string, ino *inode) error {
	h, err := w.dirOf(parent)
	if err != nil {
		return err
	}
	if err := w.makeSpecial(h.fd, name, ino); err != nil {
		return w.fail(parent, name, err)
	}
	parent.add(name, ino)
	return nil
}

func (w *layerWriter) makeSpecial(dir int, name string, ino *inode) error {
	var err error
	switch ino.Kind {
	case KindWhiteout:
		return unix.Mknodat(dir, name, unix.S_IFCHR, 0)
	case KindSymlink:
		err = unix.Symlinkat(ino.Link, dir, name)
	case KindFifo:
		err = unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0)
	case KindChar, KindBlock:
		kind := uint32(unix.S_IFCHR)
		if ino.Kind == KindBlock {
			kind = unix.S_IFBLK
		}
		err = unix.Mknodat(dir, name, kind|0o600, int(unix.Mkdev(ino.Major, ino.Minor)))
	default:
		return fmt.Errorf("kind %q cannot be made", byte(ino.Kind))
	}
	if err == nil && (ino.UID != w.ids.uid || ino.GID != w.ids.gid) {
		err = unix.Fchownat(dir, name, ino.UID, ino.GID, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && ino.Kind != KindSymlink {
		// The name was just made here and is no symlink.
		err = unix.Fchmodat(dir, name, ino.Mode, 0)
	}
	if err == nil {
		err = setTimes(dir, name, ino.mtime)
	}
	return err
}

// link gives an existing file another name.
func (w *layerWriter) link(parent *node, name string, target *node) error {
	if err := w.workers.barrier(); err != nil {
		return err
	}
	from, err := w.dirOf(target.parent)
	if err != nil {
		return err
	}
	from.acquire()
	defer from.release()
	to, err := w.dirOf(parent)
	if err != nil {
		return err
	}
	if err := unix.Linkat(from.fd, target.name, to.fd, name, 0); err != nil {
		return w.fail(parent, name, err)
	}
	parent.add(name, target.ino)
	return nil
}

// remove takes away n and all below it.
func (w *layerWriter) remove(n *node) error {
	if err := w.workers.barrier(); err != nil {
		return err
	}
	return w.removeTree(n)
}

func (w *layerWriter) removeTree(n *node) error {
	for _, child := range n.children {
		if err := w.removeTree(child); err != nil {
			return err
		}
	}
	flags := 0
	if n.ino.Kind == KindDir {
		flags = unix.AT_REMOVEDIR
		if n.handle != nil {
			w.open = slices.DeleteFunc(w.open, func(o *node) bool { return o == n })
			w.drop(n)
		}
	}
	h, err := w.dirOf(n.parent)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(h.fd, n.name, flags); err != nil {
		return w.fail(n, "", err)
	}
	delete(n.parent.children, n.name)
	return nil
}

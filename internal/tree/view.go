package tree

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Layer is a committed layer: an overlay-ready directory and its manifest.
type Layer struct {
	Dir      string
	Manifest *Manifest
}

// View is the merged tree of a stack of layers, as an overlay mount would show
// it, computed from the manifests. Nothing is mounted, and the disk is touched
// only for contents and times. A View is safe for concurrent use.
type View struct {
	layers []Layer
	roots  []layerRoot
}

// layerRoot is the directory of a layer, opened when first needed. The file's
// own cleanup closes it with the view.
type layerRoot struct {
	once sync.Once
	file *os.File
	err  error
}

// NewView returns the view of layers, the lowest first.
func NewView(layers []Layer) *View {
	return &View{layers: layers, roots: make([]layerRoot, len(layers))}
}

// dirRef is a directory in one layer: the index of its entry.
type dirRef struct{ layer, index int }

// dirRefs are the directories that one directory of the view is merged from,
// the top one first.
type dirRefs []dirRef

// root is the root directory. Without any layer it is empty, 0755, of root.
func (v *View) root() (*Node, dirRefs) {
	var refs dirRefs
	var top *Node
	for i := len(v.layers) - 1; i >= 0; i-- {
		entries := v.layers[i].Manifest.Entries
		if len(entries) == 0 || entries[0].Path != "." {
			continue
		}
		if top == nil {
			top = v.node(dirRef{i, 0})
		}
		refs = append(refs, dirRef{i, 0})
		if entries[0].Opaque {
			break
		}
	}
	if top == nil {
		top = &Node{Entry: impliedDir().Entry, Layer: -1}
		top.Path = "."
	}
	return top, refs
}

func (v *View) entry(r dirRef) *Entry { return &v.layers[r.layer].Manifest.Entries[r.index] }

// node makes the node of an entry that is no whiteout.
func (v *View) node(r dirRef) *Node {
	e := v.entry(r)
	n := &Node{Entry: *e, Layer: r.layer, id: inodeID{uint64(r.layer) + 1, uint64(r.index)}}
	if e.Kind == KindHardlink {
		if first, ok := v.layers[r.layer].Manifest.search(e.Link); ok {
			n.Entry = v.layers[r.layer].Manifest.Entries[first]
			n.Path = e.Path
			n.id.ino = uint64(first)
		}
	}
	n.Opaque = false
	return n
}

// child looks up the path of a direct child of the directory merged from refs.
// It returns nil if there is none, and what it is merged from if it is a
// directory. nil refs are an empty directory.
func (v *View) child(refs dirRefs, path string) (*Node, dirRefs) {
	var top *Node
	var below dirRefs
	for _, r := range refs {
		entries := v.layers[r.layer].Manifest.Entries[r.index:]
		i, ok := sort.Find(len(entries), func(i int) int { return ComparePaths(path, entries[i].Path) })
		if !ok {
			continue
		}
		r.index += i
		e := &entries[i]
		if e.Kind == KindWhiteout || top != nil && e.Kind != KindDir {
			break
		}
		if top == nil {
			top = v.node(r)
			if e.Kind != KindDir {
				return top, nil
			}
		}
		below = append(below, r)
		if e.Opaque {
			break
		}
	}
	return top, below
}

// find is the node at a clean path and what it is merged from.
func (v *View) find(path string) (*Node, dirRefs, error) {
	n, refs := v.root()
	if path == "." {
		return n, refs, nil
	}
	for end := 0; end < len(path); {
		if i := strings.IndexByte(path[end+1:], '/'); i < 0 {
			end = len(path)
		} else {
			end += 1 + i
		}
		if n, refs = v.child(refs, path[:end]); n == nil {
			return nil, nil, notExist("lookup", path)
		}
	}
	return n, refs, nil
}

// Lookup implements [Source].
func (v *View) Lookup(path string) (*Node, error) {
	n, _, err := v.find(cleanPath(path))
	return n, err
}

// Resolve implements [Source].
func (v *View) Resolve(path string, followLast bool) (string, *Node, error) {
	return resolveIn(path, followLast, v.Lookup)
}

// mergedNode is a child and what it is merged from.
type mergedNode struct {
	*Node
	refs dirRefs
}

// children merges a directory.
func (v *View) children(refs dirRefs) []mergedNode {
	var all []dirRef
	for _, r := range refs {
		all = v.appendChildren(all, r)
	}
	if len(refs) > 1 {
		// Stable: of equal names the upper layer's stays first.
		slices.SortStableFunc(all, func(a, b dirRef) int { return ComparePaths(v.entry(a).Path, v.entry(b).Path) })
	}
	out := make([]mergedNode, 0, len(all))
	for len(all) > 0 {
		n := 1
		for n < len(all) && v.entry(all[n]).Path == v.entry(all[0]).Path {
			n++
		}
		if m, ok := v.merge(all[:n]); ok {
			out = append(out, m)
		}
		all = all[n:]
	}
	return out
}

// merge makes one node of the entries that the layers have under one name.
func (v *View) merge(same []dirRef) (mergedNode, bool) {
	top := v.entry(same[0])
	if top.Kind == KindWhiteout {
		return mergedNode{}, false
	}
	m := mergedNode{Node: v.node(same[0])}
	if top.Kind != KindDir {
		return m, true
	}
	for _, r := range same {
		e := v.entry(r)
		if e.Kind != KindDir {
			break
		}
		m.refs = append(m.refs, r)
		if e.Opaque {
			break
		}
	}
	return m, true
}

// appendChildren adds the direct children of a directory of one layer.
func (v *View) appendChildren(out []dirRef, r dirRef) []dirRef {
	entries := v.layers[r.layer].Manifest.Entries
	prefix := entries[r.index].Path + "/"
	if r.index == 0 {
		prefix = ""
	}
	for i := r.index + 1; i < len(entries) && strings.HasPrefix(entries[i].Path, prefix); {
		out = append(out, dirRef{r.layer, i})
		if entries[i].Kind != KindDir {
			i++
			continue
		}
		// Skip what is below: it follows the directory without a gap.
		below := entries[i].Path + "/"
		rest := entries[i+1:]
		i += 1 + sort.Search(len(rest), func(k int) bool { return !strings.HasPrefix(rest[k].Path, below) })
	}
	return out
}

// ReadDir implements [Source].
func (v *View) ReadDir(path string) ([]*Node, error) {
	n, refs, err := v.find(cleanPath(path))
	if err != nil {
		return nil, err
	}
	if n.Kind != KindDir {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: unix.ENOTDIR}
	}
	children := v.children(refs)
	out := make([]*Node, len(children))
	for i, c := range children {
		out[i] = c.Node
	}
	return out, nil
}

// Walk implements [Source].
func (v *View) Walk(path string, fn func(*Node) error) error {
	n, refs, err := v.find(cleanPath(path))
	if err != nil {
		return err
	}
	return v.walk(mergedNode{n, refs}, fn)
}

func (v *View) walk(m mergedNode, fn func(*Node) error) error {
	if err := fn(m.Node); err != nil {
		return err
	}
	if m.Kind != KindDir {
		return nil
	}
	for _, c := range v.children(m.refs) {
		if err := v.walk(c, fn); err != nil {
			return err
		}
	}
	return nil
}

// Open implements [Source].
func (v *View) Open(n *Node) (*os.File, error) { return openFile(v, n) }

// openFile opens a regular file of a source.
func openFile(s Source, n *Node) (*os.File, error) {
	if n.Kind != KindFile {
		return nil, &fs.PathError{Op: "open", Path: n.Path, Err: fmt.Errorf("is no regular file")}
	}
	dir, err := s.openDir(n)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, n.Name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: n.Path, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = s.check(n, &st)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: n.Path, Err: err}
	}
	return os.NewFile(uintptr(fd), n.Path), nil
}

func (v *View) openDir(n *Node) (int, error) {
	if n.Layer < 0 || n.Layer >= len(v.layers) {
		return -1, notExist("open", n.Path)
	}
	root := &v.roots[n.Layer]
	root.once.Do(func() { root.file, root.err = os.Open(v.layers[n.Layer].Dir) })
	if root.err != nil {
		return -1, root.err
	}
	h := dirHandle{fd: int(root.file.Fd())}
	fd, err := h.open(parentPath(n.Path), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: filepath.Join(v.layers[n.Layer].Dir, parentPath(n.Path)), Err: err}
	}
	return fd, nil
}

// check holds a file of a layer against its manifest.
func (v *View) check(n *Node, st *unix.Stat_t) error {
	if disk := entryOf(n.Path, st); disk.Kind != n.Kind || disk.Size != n.Size {
		return &CorruptError{n.Path, fmt.Sprintf("is of kind %c and %d bytes, not %c and %d", disk.Kind, disk.Size, n.Kind, n.Size)}
	}
	return nil
}

// hash has nothing to do: manifests know the digests.
func (v *View) hash(context.Context, []*Node) error { return nil }

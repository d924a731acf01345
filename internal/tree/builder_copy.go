package tree

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"golang.org/x/sys/unix"
)

// Copy writes a selection to its destination.
//
// A file goes into the destination if that is a directory or ends in a slash;
// else it becomes the destination. Of a directory the contents are copied. Missing
// parents are made with the owner and mode of the copy, 0755 and root if it has
// none. A directory meets a directory: contents are merged, the metadata of the
// copied one wins, but for the top one, which keeps its own. A file replaces a file or
// a symlink; it is an error for a file to meet a directory or the reverse.
func (b *Builder) Copy(s *Selection) error {
	for i := range s.matches {
		m := &s.matches[i]
		var err error
		if m.archive {
			err = b.extract(s, m, s.options.Dest)
		} else {
			err = b.copyMatch(s, m, len(s.matches) > 1)
		}
		if err != nil {
			return fmt.Errorf("copy %s to %s: %w", m.name, s.options.Dest, err)
		}
	}
	return nil
}

// parentMode is the mode of directories made on the way to a destination.
func parentMode(mode *uint32) uint32 {
	if mode == nil {
		return 0o755
	}
	return *mode & 0o777
}

// destination resolves where a source called name goes, and makes the parents.
func (b *Builder) destination(dest, name string, ofDir bool, mode uint32, owner *Owner) (string, error) {
	clean := cleanPath(dest)
	parent := parentPath(clean)
	if isDirPath(dest) {
		parent = clean
	}
	p, _, err := b.resolve(parent, true)
	if err != nil {
		return "", err
	}
	if _, err := b.ensureDir(p, mode, owner); err != nil {
		return "", err
	}
	target, exists, err := b.resolve(clean, true)
	if err != nil {
		return "", err
	}
	if !exists && ofDir {
		_, err := b.ensureDir(target, mode, owner)
		return target, err
	}
	if exists && !ofDir {
		if kind, _, err := b.peek(target); err == nil && kind == KindDir {
			return joinPath(target, name), nil
		}
	}
	_, err = b.ensureDir(parentPath(target), mode, owner)
	return target, err
}

// isDirPath reports whether a destination says by its form that it is a
// directory.
func isDirPath(p string) bool {
	return p == "" || p == "." || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.")
}

func (b *Builder) copyMatch(s *Selection, m *match, several bool) error {
	c := copier{b: b, s: s, m: m, links: map[inodeID]*node{}}
	defer c.dirs.close()
	top := m.node()
	mode, owner := parentMode(s.options.Mode), s.options.Owner
	target, err := b.destination(s.options.Dest, m.name, top.IsDir(), mode, owner)
	if err != nil {
		return err
	}
	if !top.IsDir() {
		if several && !isDirPath(s.options.Dest) && baseName(target) != m.name {
			return fmt.Errorf("several sources need a directory as destination: end it with a slash")
		}
		parent, err := b.ensureDir(parentPath(target), mode, owner)
		if err != nil {
			return err
		}
		return c.leaf(parent, baseName(target), top)
	}
	dir, err := b.ensureDir(target, mode, owner)
	if err != nil {
		return err
	}
	ino := *dir.ino
	if ino.mtime, err = c.mtime(top); err != nil {
		return err
	}
	dir.ino = &ino
	return c.contents(dir)
}

// copier copies one match.
type copier struct {
	b     *Builder
	s     *Selection
	m     *match
	links map[inodeID]*node // first names of files
	dirs  sourceDir
}

// contents copies what is below the match into dir.
func (c *copier) contents(dir *node) error {
	type level struct {
		rel string
		dir *node
	}
	levels := []level{{"", dir}}
	for _, n := range c.m.nodes[1:] {
		if err := c.b.w.workers.failure(); err != nil {
			return err
		}
		rel := c.m.rel(n)
		up := strings.TrimSuffix(rel[:len(rel)-len(baseName(rel))], "/")
		for levels[len(levels)-1].rel != up {
			levels = levels[:len(levels)-1]
		}
		parent := levels[len(levels)-1].dir
		if !n.IsDir() {
			if err := c.leaf(parent, n.Name(), n); err != nil {
				return err
			}
			continue
		}
		ino, err := c.inode(n)
		if err != nil {
			return err
		}
		child, err := c.b.putDir(parent, n.Name(), ino, false)
		if err != nil {
			return err
		}
		levels = append(levels, level{rel, child})
	}
	return nil
}

// inode describes what the copy of n becomes.
func (c *copier) inode(n *Node) (*inode, error) {
	ino := &inode{Entry: c.s.options.apply(n)}
	ino.Path = ""
	if n.Kind == KindFile {
		return ino, nil // the worker that copies it reads the time
	}
	var err error
	ino.mtime, err = c.mtime(n)
	return ino, err
}

// mtime is the modification time of a node on disk.
func (c *copier) mtime(n *Node) (unix.Timespec, error) {
	if n.Layer < 0 {
		return unix.Timespec{}, nil
	}
	fd, err := c.dirs.open(c.s.source, n)
	if err != nil {
		return unix.Timespec{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, n.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return unix.Timespec{}, &fs.PathError{Op: "stat", Path: n.Path, Err: err}
	}
	return st.Mtim, nil
}

// leaf copies what is not a directory. Names of one file stay linked within a
// match.
func (c *copier) leaf(parent *node, name string, n *Node) error {
	if err := c.b.clear(parent, name, false); err != nil {
		return err
	}
	if first := c.links[n.id]; first != nil {
		return c.b.w.link(parent, name, first)
	}
	ino, err := c.inode(n)
	if err != nil {
		return err
	}
	if n.Kind == KindFile {
		// Only layers are immutable: a linked file of a context could change later.
		_, layer := c.s.source.(*View)
		link := layer && c.s.options.Link && ino.UID == n.UID && ino.GID == n.GID && ino.Mode == n.Mode
		err = c.b.w.copyFile(parent, name, ino, fileOrigin{source: c.s.source, node: n, link: link})
	} else {
		err = c.b.w.special(parent, name, ino)
	}
	c.links[n.id] = parent.children[name]
	return err
}

// child is the merged child of a directory of the layer: its own node, or that
// of the base and what it is merged from.
func (b *Builder) child(parent *node, name string) (own *node, base *Node, refs dirRefs) {
	if own = parent.children[name]; own != nil || parent.lower == nil {
		return own, nil, nil
	}
	base, refs = b.base.child(parent.lower, joinPath(parent.path(), name))
	return nil, base, refs
}

// clear makes way for something that is not a directory. Directories are in the
// way unless replaceDirs. What the base has is hidden by what comes.
func (b *Builder) clear(parent *node, name string, replaceDirs bool) error {
	own, base, _ := b.child(parent, name)
	isDir := own != nil && own.ino.Kind == KindDir || base != nil && base.Kind == KindDir
	if isDir && !replaceDirs {
		return fmt.Errorf("cannot replace the directory /%s with a file", joinPath(parent.path(), name))
	}
	if own == nil {
		return nil
	}
	return b.w.remove(own)
}

// putDir makes a directory or gives an existing one new metadata. Attributes
// that only the old one has stay. Other things are in the way unless replace.
func (b *Builder) putDir(parent *node, name string, ino *inode, replace bool) (*node, error) {
	own, base, refs := b.child(parent, name)
	switch {
	case own != nil && own.ino.Kind == KindDir:
		ino.Opaque = own.ino.Opaque
		ino.Xattrs = mergeXattrs(own.ino.Xattrs, ino.Xattrs)
		own.ino = ino
		return own, nil
	case base != nil && base.Kind == KindDir:
		ino.Xattrs = mergeXattrs(base.Xattrs, ino.Xattrs)
	case own == nil && base == nil:
	case !replace:
		return nil, fmt.Errorf("cannot copy a directory to /%s, which is not a directory", joinPath(parent.path(), name))
	case own != nil:
		if err := b.w.remove(own); err != nil {
			return nil, err
		}
		// What the removed file hid must not shine through again.
		_, below, _ := b.child(parent, name)
		ino.Opaque = below != nil && below.Kind == KindDir
	}
	child, err := b.w.mkdir(parent, name, ino)
	if err != nil {
		return nil, err
	}
	child.lower = refs
	return child, nil
}

func mergeXattrs(under, over map[string]string) map[string]string {
	if len(under) == 0 {
		return over
	}
	m := maps.Clone(under)
	maps.Copy(m, over)
	return m
}

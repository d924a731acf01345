package tree

import (
	"archive/tar"
	"fmt"
	"strings"
)

// parent finds the directory that an entry goes into and makes what is missing
// of it. A symlink on the way is never followed.
func (x *extractor) parent(h *tar.Header, p string) (*node, error) {
	n := x.w.top
	if p == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		child := n.children[name]
		switch {
		case child == nil || child.ino.Kind == KindWhiteout:
			if strings.HasPrefix(name, whiteoutPrefix) {
				return nil, &HostileError{h.Name, "lies below a whiteout"}
			}
			ino := impliedDir()
			if _, err := x.replace(n, name, ino, h); err != nil {
				return nil, err
			}
			var err error
			if child, err = x.w.mkdir(n, name, ino); err != nil {
				return nil, err
			}
		case child.ino.Kind == KindSymlink:
			return nil, &HostileError{h.Name, fmt.Sprintf("lies below the symbolic link %q", child.path())}
		case child.ino.Kind != KindDir:
			return nil, &HostileError{h.Name, fmt.Sprintf("lies below %q, which is not a directory", child.path())}
		}
		n = child
	}
	return n, nil
}

// replace makes place for a new entry where an earlier one has its name. It
// returns true when nothing remains to be done: a directory that is listed
// again keeps its content and takes the new metadata.
func (x *extractor) replace(parent *node, name string, ino *inode, h *tar.Header) (bool, error) {
	old := parent.children[name]
	switch {
	case old == nil:
		return false, nil
	case old.ino.Kind == KindDir && ino.Kind == KindDir:
		ino.Opaque = old.ino.Opaque
		old.ino = ino
		return true, nil
	case ino.Kind == KindHardlink:
		// A hard link to the name itself must not take its own target away.
		if p, err := entryPath(h.Linkname); err == nil && x.w.lookup(p) == old {
			return true, nil
		}
	case old.ino.Kind == KindWhiteout && ino.Kind == KindDir:
		ino.Opaque = true // hidden below, and made again
	}
	return false, x.w.remove(old)
}

// hardlink gives an earlier file of the archive another name.
func (x *extractor) hardlink(h *tar.Header, parent *node, name string) error {
	p, err := entryPath(h.Linkname)
	if err != nil {
		return &HostileError{h.Name, fmt.Sprintf("hard link to %.200q, which leads out of the root", h.Linkname)}
	}
	target := x.w.lookup(p)
	if target == nil {
		return &HostileError{h.Name, fmt.Sprintf("hard link to %.200q, which this layer does not have", h.Linkname)}
	}
	if !linkable(target.ino.Kind) {
		return &HostileError{h.Name, fmt.Sprintf("hard link to %.200q, which is no file", h.Linkname)}
	}
	return x.w.link(parent, name, target)
}

// opaque marks a directory.
func (x *extractor) opaque(h *tar.Header, p string) error {
	n, err := x.parent(h, p)
	if err != nil {
		return err
	}
	n.ino.Opaque = true
	return nil
}

// whiteout hides a name of the layers below. What this layer itself has under
// that name stays.
func (x *extractor) whiteout(h *tar.Header, dir, name string) error {
	if name == "" || name == "." || name == ".." {
		return &HostileError{h.Name, "whiteout of no name"}
	}
	parent, err := x.parent(h, dir)
	if err != nil {
		return err
	}
	switch old := parent.children[name]; {
	case old == nil:
		return x.w.special(parent, name, &inode{Entry: Entry{Kind: KindWhiteout}})
	case old.ino.Kind == KindDir:
		old.ino.Opaque = true
	}
	return nil
}

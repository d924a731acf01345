package tree

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// finish waits for the workers, gives every directory its owner, mode,
// attributes and times, and returns what was written.
func (w *layerWriter) finish() (*Manifest, error) {
	if err := w.workers.barrier(); err != nil {
		return nil, err
	}
	f := finisher{w: w, first: map[*inode]string{}}
	if err := f.dir(w.top, ".", w.top.handle, false); err != nil {
		return nil, err
	}
	return &Manifest{Entries: f.entries}, nil
}

// finisher walks the nodes in the order of a manifest.
type finisher struct {
	w       *layerWriter
	entries []Entry
	first   map[*inode]string // first name of each file that was seen
}

// dir finishes the directory n, which parent holds (the root is its own). alone
// says that the layers below have nothing to show here.
func (f *finisher) dir(n *node, path string, parent *dirHandle, alone bool) error {
	e := n.ino.Entry
	e.Path = path
	f.entries = append(f.entries, e)
	fd, err := parent.openChild(n.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return f.w.fail(n, "", err)
	}
	h := newDirHandle(fd)
	defer h.release()
	alone = alone || n.ino.Opaque
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child := n.children[name]
		childPath := joinPath(path, name)
		if child.ino.Kind == KindDir {
			if err := f.dir(child, childPath, h, alone); err != nil {
				return err
			}
			continue
		}
		if alone && child.ino.Kind == KindWhiteout {
			// It hides nothing, and overlay mounts would list its name.
			if err := unix.Unlinkat(h.fd, name, 0); err != nil {
				return f.w.fail(child, "", err)
			}
			continue
		}
		f.leaf(child.ino, childPath)
	}
	if err := sealDir(h.fd, n.ino); err != nil {
		return f.w.fail(n, "", err)
	}
	return nil
}

func (f *finisher) leaf(ino *inode, path string) {
	if first, ok := f.first[ino]; ok {
		f.entries = append(f.entries, Entry{Path: path, Kind: KindHardlink, Link: first})
		return
	}
	e := ino.Entry
	e.Path = path
	f.entries = append(f.entries, e)
	f.first[ino] = path
}

func sealDir(fd int, ino *inode) error {
	if err := unix.Fchown(fd, ino.UID, ino.GID); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", ino.UID, ino.GID, err)
	}
	if err := unix.Fchmod(fd, ino.Mode); err != nil {
		return err
	}
	if err := writeXattrs(fd, ino.Xattrs); err != nil {
		return err
	}
	if ino.Opaque {
		if err := unix.Fsetxattr(fd, overlayOpaque(), []byte("y"), 0); err != nil {
			return fmt.Errorf("set %s: %w", overlayOpaque(), err)
		}
	}
	return setTimes(fd, ".", ino.mtime)
}

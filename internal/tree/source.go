package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Source is a tree that copies are taken from: a [View] or a [Context].
//
// Paths are relative to the root of the tree. A leading slash, "." and ".." are
// taken as they would be inside a root: there is no way above it. Errors for what
// is not there match [fs.ErrNotExist].
type Source interface {
	// Lookup returns the node at a path and follows no symlink.
	Lookup(path string) (*Node, error)
	// ReadDir lists a directory, sorted by name.
	ReadDir(path string) ([]*Node, error)
	// Resolve follows symlinks inside the root, the last component only if
	// followLast. For what does not exist it returns the path that would be
	// created, and an error that matches fs.ErrNotExist.
	Resolve(path string, followLast bool) (string, *Node, error)
	// Walk calls fn for the node at a path and all below it, in the order of
	// ComparePaths. It follows no symlink and ends with the first error.
	Walk(path string, fn func(*Node) error) error
	// Open opens a regular file for reading, never through a symlink.
	Open(n *Node) (*os.File, error)

	// hash fills in digests and attributes where they are not known yet.
	hash(ctx context.Context, nodes []*Node) error
	// openDir opens the directory that holds n on disk.
	openDir(n *Node) (int, error)
	// check says whether an open file is still the node that was hashed.
	check(n *Node, st *unix.Stat_t) error
}

// Node is one path of a [Source]. For a further name of a hard-linked file all
// fields but Path are those of the first name: Kind is never KindHardlink.
type Node struct {
	Entry
	Layer int // index in the view, 0 in a context

	id    inodeID // equal for the names of one file of one layer
	stat  fileStat
	young bool // too fresh when hashed to be recognised by its times later
}

// fileStat is what identifies the content of a file of a context without
// reading it. Times are in nanoseconds since 1970.
type fileStat struct {
	size, mtime, ctime int64
}

func statOf(st *unix.Stat_t) fileStat {
	return fileStat{size: st.Size, mtime: unix.TimespecToNsec(st.Mtim), ctime: unix.TimespecToNsec(st.Ctim)}
}

func notExist(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

// cleanPath makes a path relative to the root, with nothing above it.
func cleanPath(p string) string {
	var out []string
	for c := range strings.SplitSeq(p, "/") {
		switch c {
		case "", ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return "."
	}
	return strings.Join(out, "/")
}

// maxLinks bounds the symlinks followed for one path.
const maxLinks = 255

// resolve follows the symlinks of path inside the root. peek tells the kind of a
// clean path, and the target if it is a symlink. Where something is missing the
// rest is taken as it is written, and the error matches fs.ErrNotExist.
func resolve(path string, followLast bool, peek func(string) (Kind, string, error)) (string, error) {
	todo := strings.Split(path, "/")
	cur, links := ".", 0
	var missing error
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			cur, missing = parentPath(cur), nil
			continue
		}
		next := joinPath(cur, name)
		kind, link, err := peek(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		cur, missing = next, err
		if err != nil || kind != KindSymlink || len(todo) == 0 && !followLast {
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: %w", path, unix.ELOOP)
		}
		cur = parentPath(next)
		if strings.HasPrefix(link, "/") {
			cur = "."
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	if missing == nil {
		return cur, nil
	}
	return cur, missing
}

// resolveIn is Resolve for any lookup.
func resolveIn(path string, followLast bool, lookup func(string) (*Node, error)) (string, *Node, error) {
	p, err := resolve(path, followLast, func(p string) (Kind, string, error) {
		n, err := lookup(p)
		if err != nil {
			return 0, "", err
		}
		return n.Kind, n.Link, nil
	})
	if err != nil {
		return p, nil, err
	}
	n, err := lookup(p)
	return p, n, err
}

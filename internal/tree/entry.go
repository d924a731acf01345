package tree

import (
	"strings"

	"stagecraft/internal/oci"
)

// Kind is the type of an entry. Its values are the letters of the manifest
// format.
type Kind byte

// The kinds of entries. Sockets have none: they are skipped everywhere.
const (
	KindFile     Kind = 'f'
	KindDir      Kind = 'd'
	KindSymlink  Kind = 'l'
	KindHardlink Kind = 'h' // a further name of a file, symlink or device of the same layer
	KindChar     Kind = 'c'
	KindBlock    Kind = 'b'
	KindFifo     Kind = 'p'
	KindWhiteout Kind = 'w' // hides the path in the layers below
)

// Entry is one path of a tree.
//
// A hard link has only Path, Kind and Link, a whiteout only Path and Kind: the
// rest is that of the first name, or meaningless.
type Entry struct {
	Path         string // slash-separated, relative to the root; the root itself is "."
	Kind         Kind
	Mode         uint32 // permission bits with setuid, setgid and sticky (07777); 0777 for a symlink
	UID, GID     int
	Size         int64             // bytes, regular files
	Link         string            // symlink target as stored, or the path of the first name for a hard link
	Major, Minor uint32            // character and block devices
	Opaque       bool              // a directory that hides the layers below
	Xattrs       map[string]string // never those of the overlay file system
	Digest       oci.Digest        // content of a regular file
}

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Kind == KindDir }

// Name is the last component of the path.
func (e *Entry) Name() string { return e.Path[strings.LastIndexByte(e.Path, '/')+1:] }

// ComparePaths orders paths by their components, so that a directory comes
// right before all that is below it. "." comes before every other path.
func ComparePaths(a, b string) int {
	if a == "." || b == "." {
		switch {
		case a == b:
			return 0
		case a == ".":
			return -1
		}
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return componentByte(a[i]) - componentByte(b[i])
		}
	}
	return len(a) - len(b)
}

// componentByte orders the separator before every byte a name can hold.
func componentByte(c byte) int {
	if c == '/' {
		return 0
	}
	return int(c) + 1
}

// parentPath is the directory of a clean relative path; that of "a" is ".".
func parentPath(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return "."
}

// joinPath appends one name to a clean relative path.
func joinPath(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// validPath reports whether p is clean and relative: no empty, "." or ".."
// component, no NUL.
func validPath(p string) bool {
	if p == "." {
		return true
	}
	for rest, more := p, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0 {
			return false
		}
	}
	return true
}

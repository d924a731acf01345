package tree

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"stagecraft/internal/oci"
)

// manifestHeader is the first line of an encoded manifest. A change of the
// format, or of what goes into a manifest, changes the number: layer ids and
// keys are digests of these bytes.
//
// Each further line is one entry, its fields separated by one space:
//
//	f MODE UID GID PATH SIZE DIGEST [XATTR...]   regular file
//	d MODE UID GID PATH [XATTR...]               directory
//	o MODE UID GID PATH [XATTR...]               opaque directory
//	l MODE UID GID PATH TARGET [XATTR...]        symbolic link
//	c MODE UID GID PATH MAJOR MINOR [XATTR...]   character device; b: block device
//	p MODE UID GID PATH [XATTR...]               fifo
//	h PATH FIRST                                 hard link to an earlier entry
//	w PATH                                       whiteout
//
// MODE is octal, other numbers are decimal, none has leading zeros. XATTR is
// NAME=VALUE, sorted by name. In strings, space, backslash, control bytes and,
// in names of attributes, "=" are written \HH (two lower-case hex digits); all
// other bytes stand for themselves, so that any path round-trips. Entries are
// in the order of [ComparePaths], the first is ".", and every parent is listed.
// There is one encoding of a manifest: others are refused.
const manifestHeader = "stagecraft-tree 1\n"

// opaqueLetter is the kind letter of an opaque directory in the encoding.
const opaqueLetter = 'o'

// Manifest is the content of a tree: its entries in the order of
// [ComparePaths], the root "." first.
type Manifest struct {
	Entries []Entry
}

// Digest identifies the tree: the digest of its encoding.
func (m *Manifest) Digest() oci.Digest { return oci.FromBytes(m.Encode()) }

// Files counts the entries that are not directories.
func (m *Manifest) Files() int {
	n := 0
	for i := range m.Entries {
		if m.Entries[i].Kind != KindDir {
			n++
		}
	}
	return n
}

// Bytes is the sum of the sizes of regular files; hard links count once.
func (m *Manifest) Bytes() int64 {
	var n int64
	for i := range m.Entries {
		n += m.Entries[i].Size
	}
	return n
}

// Find returns the entry of a path, or nil.
func (m *Manifest) Find(path string) *Entry {
	i, ok := m.search(path)
	if !ok {
		return nil
	}
	return &m.Entries[i]
}

// search is the place of a path among the entries.
func (m *Manifest) search(path string) (int, bool) {
	return sort.Find(len(m.Entries), func(i int) int { return ComparePaths(path, m.Entries[i].Path) })
}

// Encode writes the manifest in its one deterministic form.
func (m *Manifest) Encode() []byte {
	size := len(manifestHeader)
	for i := range m.Entries {
		e := &m.Entries[i]
		size += len(e.Path) + len(e.Link) + len(e.Digest) + 32
	}
	b := make([]byte, 0, size)
	b = append(b, manifestHeader...)
	for i := range m.Entries {
		b = appendEntry(b, &m.Entries[i])
	}
	return b
}

func appendEntry(b []byte, e *Entry) []byte {
	switch {
	case e.Kind == KindDir && e.Opaque:
		b = append(b, opaqueLetter, ' ')
	default:
		b = append(b, byte(e.Kind), ' ')
	}
	switch e.Kind {
	case KindWhiteout:
		b = appendEscaped(b, e.Path, false)
		return append(b, '\n')
	case KindHardlink:
		b = appendEscaped(b, e.Path, false)
		b = append(b, ' ')
		b = appendEscaped(b, e.Link, false)
		return append(b, '\n')
	}
	b = appendNumber(b, uint64(e.Mode), 8)
	b = appendNumber(b, uint64(e.UID), 10)
	b = appendNumber(b, uint64(e.GID), 10)
	b = appendEscaped(b, e.Path, false)
	switch e.Kind {
	case KindFile:
		b = append(b, ' ')
		b = appendNumber(b, uint64(e.Size), 10)
		b = append(b, e.Digest...)
	case KindSymlink:
		b = append(b, ' ')
		b = appendEscaped(b, e.Link, false)
	case KindChar, KindBlock:
		b = append(b, ' ')
		b = appendNumber(b, uint64(e.Major), 10)
		b = appendNumber(b, uint64(e.Minor), 10)
		b = b[:len(b)-1]
	}
	if len(e.Xattrs) > 0 {
		b = appendXattrs(b, e.Xattrs)
	}
	return append(b, '\n')
}

func appendXattrs(b []byte, xattrs map[string]string) []byte {
	names := make([]string, 0, len(xattrs))
	for name := range xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = append(b, ' ')
		b = appendEscaped(b, name, true)
		b = append(b, '=')
		b = appendEscaped(b, xattrs[name], false)
	}
	return b
}

// DecodeManifest reads what [Manifest.Encode] wrote and refuses everything
// else: unknown versions, other orders, missing parents, paths that are not
// clean. The strings of the entries share one copy of b.
func DecodeManifest(b []byte) (*Manifest, error) {
	s := string(b)
	body, ok := strings.CutPrefix(s, manifestHeader)
	if !ok {
		return nil, fmt.Errorf("tree manifest: not of version %q", strings.TrimSpace(manifestHeader))
	}
	m := &Manifest{Entries: make([]Entry, 0, strings.Count(body, "\n"))}
	var hardlinks []int
	for n := 2; body != ""; n++ {
		line, rest, ok := strings.Cut(body, "\n")
		if !ok {
			return nil, fmt.Errorf("tree manifest line %d: cut short", n)
		}
		body = rest
		m.Entries = append(m.Entries, Entry{})
		i := len(m.Entries) - 1
		e := &m.Entries[i]
		if err := decodeEntry(line, e); err != nil {
			return nil, fmt.Errorf("tree manifest line %d: %w", n, err)
		}
		var prev *Entry
		if i > 0 {
			prev = &m.Entries[i-1]
		}
		if err := checkOrder(prev, e); err != nil {
			return nil, fmt.Errorf("tree manifest line %d: %w", n, err)
		}
		if e.Kind == KindHardlink {
			hardlinks = append(hardlinks, i)
		}
	}
	for _, i := range hardlinks {
		e := &m.Entries[i]
		first, ok := m.search(e.Link)
		if !ok || first >= i || !linkable(m.Entries[first].Kind) {
			return nil, fmt.Errorf("tree manifest line %d: hard link %q to %q, which is no earlier file", i+2, e.Path, e.Link)
		}
	}
	return m, nil
}

// linkable reports whether an entry of kind k can be the first name of a hard
// link.
func linkable(k Kind) bool {
	return k != KindDir && k != KindWhiteout && k != KindHardlink
}

// checkOrder holds e against the entry before it: the root comes first, paths
// rise, and the parent of e is prev or a directory above prev. By induction
// every parent is then listed and a directory.
func checkOrder(prev, e *Entry) error {
	if prev == nil {
		if e.Path != "." || e.Kind != KindDir {
			return fmt.Errorf("%q is not the root directory", e.Path)
		}
		return nil
	}
	if ComparePaths(prev.Path, e.Path) >= 0 {
		return fmt.Errorf("%q is out of order", e.Path)
	}
	parent := parentPath(e.Path)
	switch {
	case parent == ".", parent == prev.Path && prev.Kind == KindDir:
		return nil
	case len(prev.Path) > len(parent) && prev.Path[len(parent)] == '/' && prev.Path[:len(parent)] == parent:
		return nil
	}
	return fmt.Errorf("%q has no parent directory", e.Path)
}

package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"stagecraft/internal/oci"
)

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// CopyOptions are those of COPY and ADD, by the rules of the Dockerfile
// reference as BuildKit applies them.
type CopyOptions struct {
	Sources []string // paths or wildcards, relative to the source's root
	Dest    string   // absolute, or relative to the root; a trailing slash means a directory
	Owner   *Owner   // nil: as in the source
	Mode    *uint32  // nil: as in the source; for all but symlinks
	Extract bool     // unpack local archives, found by their content (ADD)
	Link    bool     // hard-link files of a layer where owner and mode stay the same
}

// MissingError says that a source does not exist. The caller knows whether an
// ignore rule hides it ([Ignore.Rule]).
type MissingError struct {
	Pattern string // as given
	Path    string // what was looked for, relative to the root
}

func (e *MissingError) Error() string {
	if p := cleanPath(e.Pattern); p == e.Path {
		return fmt.Sprintf("source %q does not exist", e.Pattern)
	}
	return fmt.Sprintf("source %q: %q does not exist", e.Pattern, e.Path)
}

// Is makes a MissingError match [fs.ErrNotExist].
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

// Selection is what a copy takes from its source: resolved, listed and hashed,
// not yet written.
type Selection struct {
	// Unmatched are the wildcards that match nothing. As in the reference this
	// is no error where the directory before the first wildcard exists.
	Unmatched []string

	source  Source
	options CopyOptions
	matches []match
}

// match is one source path.
type match struct {
	name    string  // the last component as asked for, before symlinks
	nodes   []*Node // the source itself and all below it
	archive bool    // to be unpacked
}

func (m *match) node() *Node { return m.nodes[0] }

// rel is the path of a node relative to the match, "." for itself.
func (m *match) rel(n *Node) string { return relPath(m.nodes[0].Path, n.Path) }

func relPath(dir, p string) string {
	switch {
	case p == dir:
		return "."
	case dir == ".":
		return p
	}
	return p[len(dir)+1:]
}

// Select finds what a copy takes. A symlink given as a source, or matched by a
// wildcard, is followed inside the root; symlinks below a directory are taken as
// they are. Only what is selected is read.
func Select(ctx context.Context, src Source, o CopyOptions) (*Selection, error) {
	s := &Selection{source: src, options: o}
	for _, pattern := range o.Sources {
		paths, err := expand(src, pattern)
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			s.Unmatched = append(s.Unmatched, pattern)
		}
		for _, p := range paths {
			if err := s.take(pattern, p); err != nil {
				return nil, err
			}
		}
	}
	var all []*Node
	for i := range s.matches {
		all = append(all, s.matches[i].nodes...)
	}
	if err := src.hash(ctx, all); err != nil {
		return nil, err
	}
	if o.Extract {
		for i := range s.matches {
			m := &s.matches[i]
			var err error
			if m.archive, err = isArchive(src, m.node()); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// take adds one source path, which is clean.
func (s *Selection) take(pattern, p string) error {
	resolved, _, err := s.source.Resolve(p, true)
	if errors.Is(err, fs.ErrNotExist) {
		return &MissingError{Pattern: pattern, Path: resolved}
	}
	if err != nil {
		return fmt.Errorf("source %q: %w", pattern, err)
	}
	m := match{name: path.Base(p)}
	err = s.source.Walk(resolved, func(n *Node) error {
		m.nodes = append(m.nodes, n)
		return nil
	})
	if err != nil {
		return fmt.Errorf("source %q: %w", pattern, err)
	}
	s.matches = append(s.matches, m)
	return nil
}

// expand lists the paths that a pattern stands for, sorted. The part before the
// first wildcard must exist; no symlink is followed after it.
func expand(src Source, pattern string) ([]string, error) {
	clean := cleanPath(pattern)
	var fixed, wild []string
	for c := range strings.SplitSeq(clean, "/") {
		if len(wild) > 0 || hasWildcard(c) {
			wild = append(wild, c)
		} else {
			fixed = append(fixed, c)
		}
	}
	if len(wild) == 0 {
		return []string{clean}, nil
	}
	base, _, err := src.Resolve(strings.Join(fixed, "/"), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Pattern: pattern, Path: base}
	}
	paths := []string{base}
	for i, w := range wild {
		if _, matchErr := path.Match(w, ""); matchErr != nil {
			return nil, fmt.Errorf("source %q: %w", pattern, matchErr)
		}
		var next []string
		for _, dir := range paths {
			nodes, readErr := src.ReadDir(dir)
			if readErr != nil {
				err = errors.Join(err, readErr)
				continue
			}
			for _, n := range nodes {
				if ok, _ := path.Match(w, n.Name()); ok && (i == len(wild)-1 || n.Kind == KindDir) {
					next = append(next, n.Path)
				}
			}
		}
		paths = next
	}
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", pattern, err)
	}
	return paths, nil
}

func hasWildcard(c string) bool {
	for i := 0; i < len(c); i++ {
		switch c[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// apply is the entry of a node with the owner and mode that the copy gives it.
func (o *CopyOptions) apply(n *Node) Entry {
	e := n.Entry
	if o.Owner != nil {
		e.UID, e.GID = o.Owner.UID, o.Owner.GID
	}
	if o.Mode != nil && e.Kind != KindSymlink {
		e.Mode = *o.Mode & 0o7777
	}
	return e
}

// WithOwner returns the same selection, to be written with another owner. What
// was selected and hashed stays as it is.
func (s *Selection) WithOwner(owner *Owner) *Selection {
	with := *s
	with.options.Owner = owner
	return &with
}

// Entries lists what is copied, with the paths of the source and the owners and
// modes of the copy, to explain a changed [Selection.Digest].
func (s *Selection) Entries() []Entry {
	var out []Entry
	for i := range s.matches {
		for _, n := range s.matches[i].nodes {
			out = append(out, s.options.apply(n))
		}
	}
	return out
}

// selectionHeader starts the bytes that are hashed for [Selection.Digest]. It
// changes when they do.
const selectionHeader = "stagecraft-copy 1\n"

// Digest identifies what the copy writes, wherever it writes it: for each source
// its name or, for a directory, whose name is not copied, its contents; kinds,
// modes, owners, attributes, link targets and contents. The destination and the
// place of the source are not part of it, nor are times.
func (s *Selection) Digest() oci.Digest {
	h := sha256.New()
	buf := []byte(selectionHeader)
	for i := range s.matches {
		m := &s.matches[i]
		switch {
		case m.archive:
			buf = append(buf, "archive "...)
		case m.node().IsDir():
			buf = append(buf, "directory "...)
		default:
			buf = append(buf, "file "...)
			buf = appendEscaped(buf, m.name, false)
		}
		buf = append(buf, '\n')
		links := linkNames{}
		for _, n := range m.nodes {
			if n == m.node() && n.IsDir() {
				continue // its own metadata is not copied
			}
			e := s.options.apply(n)
			e.Path = m.rel(n)
			if first := links.first(n, e.Path); first != "" {
				e = Entry{Path: e.Path, Kind: KindHardlink, Link: first}
			}
			buf = appendEntry(buf, &e)
			if len(buf) > ioBuffer {
				h.Write(buf)
				buf = buf[:0]
			}
		}
	}
	h.Write(buf)
	return formatDigest(h.Sum(nil))
}

// linkNames finds the names of one file among the nodes of a match.
type linkNames map[inodeID]string

// first returns the earlier name of the file n, or remembers rel as such.
func (l linkNames) first(n *Node, rel string) string {
	if n.Kind == KindDir {
		return ""
	}
	if first, ok := l[n.id]; ok {
		return first
	}
	l[n.id] = rel
	return ""
}

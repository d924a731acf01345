package tree

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ignore holds the rules of a .dockerignore file. The last rule that matches a
// path or a directory above it decides; a rule that starts with "!" lets in
// again. A nil *Ignore hides nothing. It is safe for concurrent use.
type Ignore struct {
	rules  []ignoreRule
	letsIn bool // some rule starts with "!"
}

// ignoreRule is one pattern. Each has a matcher of its own, which is used once
// while parsing, because a matcher compiles itself at first use.
type ignoreRule struct {
	text    string // as written
	line    int    // from 1
	letsIn  bool
	parts   []string
	matcher *patternmatcher.PatternMatcher
}

// noMatch says of one pattern that no directory above matched it.
var noMatch = func() patternmatcher.MatchInfo {
	m, err := patternmatcher.New([]string{"a"})
	if err != nil {
		panic(err) // a constant
	}
	_, info, err := m.MatchesUsingParentResults("b", patternmatcher.MatchInfo{})
	if err != nil {
		panic(err)
	}
	return info
}()

// IgnoreRule names the line of a .dockerignore file that hides a path.
type IgnoreRule struct {
	Line    int    // from 1
	Pattern string // as written
}

// ParseIgnore reads a .dockerignore file by the reference's rules.
func ParseIgnore(r io.Reader) (*Ignore, error) {
	g := &Ignore{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if n > 1 {
			// Only the first line may start with a byte order mark.
			line = "\n" + line
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(line))
		if err != nil {
			return nil, fmt.Errorf("ignore file line %d: %w", n, err)
		}
		for _, p := range patterns {
			if p == "." || p == "" {
				continue // "." is an empty rule for the reference
			}
			if err := g.add(p, strings.TrimSpace(lines.Text()), n); err != nil {
				return nil, fmt.Errorf("ignore file line %d: %q: %w", n, p, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("ignore file: %w", err)
	}
	return g, nil
}

func (g *Ignore) add(pattern, text string, line int) error {
	bare, letsIn := strings.CutPrefix(pattern, "!")
	if bare == "" {
		return errors.New("\"!\" without a pattern")
	}
	m, err := patternmatcher.New([]string{bare})
	if err != nil {
		return err
	}
	if _, _, err := m.MatchesUsingParentResults(".", noMatch); err != nil {
		return err
	}
	g.rules = append(g.rules, ignoreRule{
		text: text, line: line, letsIn: letsIn, parts: strings.Split(path.Clean(bare), "/"), matcher: m,
	})
	g.letsIn = g.letsIn || letsIn
	return nil
}

// ignoreState is what the rules say of a path: the inputs for what is below.
type ignoreState struct {
	hidden  bool
	rule    int    // the deciding one, -1 for none
	matched []bool // by rule: it matched here or above
}

// enter applies the rules to a path, given the state of its directory. The zero
// state is that of the root. A rule that could change nothing is not asked, as in
// the reference, and then counts as not matched for what is below.
func (g *Ignore) enter(p string, dir ignoreState) ignoreState {
	s := ignoreState{rule: -1}
	if g == nil || len(g.rules) == 0 {
		return s
	}
	s.matched = make([]bool, len(g.rules))
	for i := range g.rules {
		r := &g.rules[i]
		match := dir.matched != nil && dir.matched[i]
		if !match {
			if r.letsIn != s.hidden {
				continue
			}
			// The pattern compiled when it was parsed, it cannot fail.
			match, _, _ = r.matcher.MatchesUsingParentResults(p, noMatch)
		}
		s.matched[i] = match
		if match {
			s.hidden, s.rule = !r.letsIn, i
		}
	}
	return s
}

// stateOf applies the rules to a clean path and every directory above it.
func (g *Ignore) stateOf(p string) ignoreState {
	var s ignoreState
	if g == nil || p == "." {
		return s
	}
	for i := 0; i <= len(p); i++ {
		if i == len(p) || p[i] == '/' {
			s = g.enter(p[:i], s)
		}
	}
	return s
}

// Match reports whether a path, relative to the context, is hidden. Directories
// and files are not told apart, as in the reference.
func (g *Ignore) Match(p string) bool { return g.stateOf(cleanPath(p)).hidden }

// Rule returns the line that hides a path; false if none does.
func (g *Ignore) Rule(p string) (IgnoreRule, bool) {
	s := g.stateOf(cleanPath(p))
	if !s.hidden {
		return IgnoreRule{}, false
	}
	r := &g.rules[s.rule]
	return IgnoreRule{Line: r.line, Pattern: r.text}, true
}

// mayShowBelow reports whether a rule could let in something below a hidden
// directory; if not, the directory need not be read.
func (g *Ignore) mayShowBelow(dir string) bool {
	if g == nil || !g.letsIn {
		return false
	}
	names := strings.Split(dir, "/")
	for i := range g.rules {
		if r := &g.rules[i]; r.letsIn && r.reachesBelow(names) {
			return true
		}
	}
	return false
}

// reachesBelow reports whether the pattern could match below a directory.
func (r *ignoreRule) reachesBelow(dir []string) bool {
	for i, name := range dir {
		if i == len(r.parts) {
			return false // the pattern is for the directory above
		}
		if strings.Contains(r.parts[i], "**") {
			return true
		}
		if ok, err := path.Match(r.parts[i], name); err != nil || !ok {
			return false
		}
	}
	return true
}

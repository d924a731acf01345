package tree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func parseIgnore(t testing.TB, text string) *Ignore {
	t.Helper()
	g, err := ParseIgnore(strings.NewReader(text))
	check(t, err)
	return g
}

func TestIgnoreRules(t *testing.T) {
	for _, test := range []struct{ rules, hidden, shown string }{
		{"", "", "a a/b"},
		{"# a\n\n  \n", "", "a #"},
		{"\ufeffa\nb", "a b", "c"},
		{"a", "a a/b a/b/c", "b b/a ab"},
		{"/a/", "a a/b", "b/a"},
		{"*", "a a/b .git", ""},
		{"*/b", "a/b a/b/c", "b a/a/b"},
		{"**/b", "b a/b a/a/b b/c", "a ab"},
		{"*.md\n!README.md", "a.md", "README.md a/b.md"},
		{"**/*.md\n!docs/**/*.md", "a.md x/a.md", "docs/a.md docs/x/a.md"},
		{"a\n!a/b", "a a/c", "a/b a/b/c"},
		{"a\n!a/b\na/b/c", "a a/b/c", "a/b a/b/d"},
		{"!a\na", "a", "b"},
		{"a?c", "abc", "ac abcd a/c"},
		{"[ab]", "a b", "c"},
		{"a\\*", "a*", "ab"},
		{"a/../b", "b", "a"},
		{".", "", "a"},
		{"**", "a a/b", ""},
		{"  a  ", "a", "b"},
	} {
		g := parseIgnore(t, test.rules)
		for _, p := range strings.Fields(test.hidden) {
			if !g.Match(p) {
				t.Errorf("%q does not hide %q", test.rules, p)
			}
		}
		for _, p := range strings.Fields(test.shown) {
			if g.Match(p) {
				t.Errorf("%q hides %q", test.rules, p)
			}
		}
	}
}

func TestIgnoreNamesTheLine(t *testing.T) {
	g := parseIgnore(t, "# built\ndist\n\n!dist/keep\n/dist/keep/*.map\n")
	for p, want := range map[string]IgnoreRule{
		"dist/a":          {2, "dist"},
		"dist/keep/a.map": {5, "/dist/keep/*.map"},
	} {
		if got, ok := g.Rule(p); !ok || got != want {
			t.Errorf("Rule(%q) = %v, %t; want %v", p, got, ok, want)
		}
	}
	if r, ok := g.Rule("dist/keep/b"); ok {
		t.Errorf("Rule of a visible path: %v", r)
	}
}

func TestParseIgnoreRefuses(t *testing.T) {
	for _, rules := range []string{"a\n!", "[", "a[", strings.Repeat("x", 1<<17)} {
		if _, err := ParseIgnore(strings.NewReader(rules)); err == nil {
			t.Errorf("%.10q: accepted", rules)
		}
	}
}

func TestContextHonoursIgnore(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a/b/c", "a/b/d", "a/e", "h/i/j", "h/k", "x", "only/hidden/f", "deep/1/2/3/keep.md", "deep/1/x"} {
		check(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	c, err := OpenContext(dir, ContextOptions{Ignore: parseIgnore(t, "a\n!a/b/c\nh\nonly\n!only/none\ndeep\n!**/*.md")})
	check(t, err)
	defer c.Close()
	var got []string
	check(t, c.Walk(".", func(n *Node) error {
		got = append(got, n.Path)
		if _, err := c.Lookup(n.Path); err != nil {
			t.Error(err)
		}
		return nil
	}))
	want := []string{".", "a", "a/b", "a/b/c", "deep", "deep/1", "deep/1/2", "deep/1/2/3", "deep/1/2/3/keep.md", "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("walk (-want +got):\n%s", diff)
	}
	for _, hidden := range []string{"a/e", "a/b/d", "h", "h/k", "only", "only/hidden", "deep/1/x"} {
		if n, err := c.Lookup(hidden); err == nil {
			t.Errorf("Lookup(%q) = %v", hidden, n.Path)
		}
	}
	nodes, err := c.ReadDir("/")
	check(t, err)
	got = nil
	for _, n := range nodes {
		got = append(got, n.Path)
	}
	if diff := cmp.Diff([]string{"a", "deep", "x"}, got); diff != "" {
		t.Errorf("ReadDir (-want +got):\n%s", diff)
	}
}

// A hidden directory that no rule lets into is not even opened.
func TestContextDoesNotReadIgnoredDirectories(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "node_modules/a"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	atime := func() int64 {
		fi, err := os.Stat(filepath.Join(dir, "node_modules"))
		check(t, err)
		return fi.ModTime().UnixNano()
	}
	before := atime()
	g := parseIgnore(t, "node_modules\n!src/*.js\n!f")
	if g.mayShowBelow("node_modules") {
		t.Error("a rule is thought to reach into node_modules")
	}
	for _, d := range []string{"src", "."} {
		if d != "." && !g.mayShowBelow(d) {
			t.Errorf("no rule is thought to reach into %s", d)
		}
	}
	c, err := OpenContext(dir, ContextOptions{Ignore: g})
	check(t, err)
	defer c.Close()
	check(t, c.Walk(".", func(n *Node) error {
		if strings.HasPrefix(n.Path, "node_modules") {
			t.Errorf("walked %q", n.Path)
		}
		return nil
	}))
	if atime() != before {
		t.Error("node_modules was touched")
	}
}

// FuzzIgnore holds the rules against the reference's own matcher.
func FuzzIgnore(f *testing.F) {
	f.Add("a\n!a/b\n*.md", "a/b/c.md")
	f.Add("**/x\n!**", "y/x/z")
	f.Fuzz(func(t *testing.T, rules, p string) {
		g, err := ParseIgnore(strings.NewReader(rules))
		if err != nil || !validPath(p) || p == "." || strings.Contains(p, "\x00") {
			return
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(rules))
		check(t, err)
		m, err := patternmatcher.New(patterns)
		if err != nil {
			return
		}
		var info patternmatcher.MatchInfo
		var want bool
		for i := 0; i <= len(p); i++ {
			if i == len(p) || p[i] == '/' {
				want, info, err = m.MatchesUsingParentResults(p[:i], info)
				if err != nil {
					return
				}
			}
		}
		if got := g.Match(p); got != want {
			t.Errorf("rules %q: Match(%q) = %t, the reference says %t", rules, p, got, want)
		}
	})
}

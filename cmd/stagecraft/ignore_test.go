package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Random contexts under random .dockerignore files: what COPY brings into an
// image is what the reference's matcher says when it is asked about every path,
// with nothing skipped or remembered.
func TestIgnoreProperty(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(25) {
		random := rand.New(rand.NewPCG(seed, round))
		c := randomContext(random)
		p := newProgram(t, c.files)
		var dockerfile strings.Builder
		var want []string
		dockerfile.WriteString("FROM scratch\n")
		for n, source := range []string{".", "a", "a/b", "b", "*.txt", "c/*.log", "a/[ab]"} {
			dest := fmt.Sprintf("out%d", n)
			if got := c.copied(source); len(got) > 0 {
				fmt.Fprintf(&dockerfile, "COPY %s /%s/\n", source, dest)
				want = append(want, dest)
				for _, name := range got {
					want = append(want, path.Join(dest, name))
				}
			} else if !strings.ContainsAny(source, "*[") { // a pattern may match nothing
				p.write(map[string]string{"../none.Dockerfile": "FROM scratch\nCOPY " + source + " /\n"})
			}
		}
		p.write(map[string]string{"../Dockerfile": dockerfile.String()})
		p.succeed("build", "-f", "../Dockerfile", "-o", "../out", ".")
		slices.Sort(want)
		if diff := cmp.Diff(slices.Compact(want), filesBelow(t, filepath.Join(p.dir, "../out"))); diff != "" {
			t.Errorf("seed %d, round %d: with .dockerignore\n%s\nof\n%s\nand\n%s\nthe image is not (-) but (+)\n%s", seed, round,
				c.files[".dockerignore"], strings.Join(c.paths(), "\n"), dockerfile.String(), diff)
		}
		if matches, _ := filepath.Glob(filepath.Join(p.dir, "../none.Dockerfile")); len(matches) > 0 {
			if got := p.run("build", "-f", "../none.Dockerfile", "."); got.code != exitInput {
				t.Errorf("seed %d, round %d: COPY of nothing: exit code %d\n%s", seed, round, got.code, got.stderr)
			}
		}
	}
}

// randomTree is a build context.
type randomTree struct {
	files   map[string]string // content by path
	matcher *patternmatcher.PatternMatcher
}

func randomContext(random *rand.Rand) *randomTree {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	c := &randomTree{files: map[string]string{}}
	for range 3 + random.IntN(25) {
		var name string
		for range random.IntN(4) {
			name += pick("a", "b", "c") + "/"
		}
		c.files[name+pick("x.txt", "y.txt", "z.log", ".dot", "ab")] = "content"
	}
	var lines []string
	for range random.IntN(7) {
		parts := make([]string, 1+random.IntN(3))
		for i := range parts {
			parts[i] = pick("a", "b", "c", "*", "**", "?", "[a-b]", "x.txt", "*.txt", "z.log", "a*", ".*")
		}
		lines = append(lines, pick("", "", "!", "!", " ", "# ", "/", "! /")+strings.Join(parts, "/")+pick("", "", "", "/", " ", "/."))
	}
	c.files[".dockerignore"] = strings.Join(lines, pick("\n", "\n", "\r\n", "\n\n"))
	patterns, err := ignorefile.ReadAll(strings.NewReader(c.files[".dockerignore"]))
	if err == nil {
		c.matcher, err = patternmatcher.New(patterns)
	}
	if err != nil {
		return randomContext(random) // no ignore file, for the reference
	}
	return c
}

// hidden asks about a path as the reference does on its way down to it.
func (c *randomTree) hidden(name string) bool {
	var info patternmatcher.MatchInfo
	hidden := false
	for i := range len(name) + 1 {
		if i == len(name) || name[i] == '/' {
			var err error
			if hidden, info, err = c.matcher.MatchesUsingParentResults(name[:i], info); err != nil {
				panic(err) // the patterns are the test's own
			}
		}
	}
	return hidden
}

func (c *randomTree) paths() []string {
	var all []string
	for name := range c.files {
		for ; name != "."; name = path.Dir(name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// visible are the paths that are not hidden, with all directories above them.
func (c *randomTree) visible() []string {
	var all []string
	for _, name := range c.paths() {
		if c.hidden(name) {
			continue
		}
		for ; name != "."; name = path.Dir(name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// copied is what COPY of a source brings, relative to the destination: files
// under their names, and what is in directories.
func (c *randomTree) copied(source string) []string {
	if source == "." {
		return c.visible()
	}
	var names []string
	for _, name := range c.visible() {
		for root := name; root != "."; root = path.Dir(root) {
			if ok, err := path.Match(source, root); err != nil || !ok {
				continue
			}
			if _, isFile := c.files[root]; isFile {
				names = append(names, path.Base(root))
			} else {
				// The directory itself is the destination.
				names = append(names, strings.TrimPrefix(strings.TrimPrefix(name, root), "/"))
			}
		}
	}
	return names
}

// filesBelow lists all paths below a directory but itself.
func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && name != dir {
			rel, _ := filepath.Rel(dir, name) // below dir, it has one
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

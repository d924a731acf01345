package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// makeTree makes a tree from words: "dir/", "file", "file=content",
// "link>target", "hard+first", each with ":MODE" or ":MODE:UID:GID" at the end
// where that matters.
func makeTree(t testing.TB, words string) string {
	t.Helper()
	root := t.TempDir()
	check(t, os.Chmod(root, 0o755))
	for w := range strings.FieldsSeq(words) {
		w, meta, _ := strings.Cut(w, ":")
		p := filepath.Join(root, w)
		switch {
		case strings.HasSuffix(w, "/"):
			check(t, os.MkdirAll(p, 0o755))
		case strings.Contains(w, ">"):
			name, target, _ := strings.Cut(w, ">")
			p = filepath.Join(root, name)
			check(t, os.MkdirAll(filepath.Dir(p), 0o755))
			check(t, os.Symlink(target, p))
		case strings.Contains(w, "+"):
			name, first, _ := strings.Cut(w, "+")
			p = filepath.Join(root, name)
			check(t, os.MkdirAll(filepath.Dir(p), 0o755))
			check(t, os.Link(filepath.Join(root, first), p))
		default:
			name, content, _ := strings.Cut(w, "=")
			p = filepath.Join(root, name)
			check(t, os.MkdirAll(filepath.Dir(p), 0o755))
			check(t, os.WriteFile(p, []byte(content), 0o644))
		}
		if meta != "" {
			f := strings.Split(meta, ":")
			if len(f) == 3 {
				check(t, os.Lchown(p, atoi(t, f[1], 10), atoi(t, f[2], 10)))
			}
			check(t, unix.Chmod(p, uint32(atoi(t, f[0], 8))))
		}
	}
	return root
}

func atoi(t testing.TB, s string, base int) int {
	t.Helper()
	n := 0
	for _, c := range s {
		n = n*base + int(c-'0')
	}
	return n
}

// describe writes a view in the words of makeTree, sorted.
func describe(t testing.TB, v *View) []string {
	t.Helper()
	var out []string
	check(t, v.Walk(".", func(n *Node) error {
		w := n.Path
		switch n.Kind {
		case KindDir:
			w += "/"
		case KindSymlink:
			w += ">" + n.Link
		case KindFile:
			b, err := readNode(v, n)
			if err != nil {
				return err
			}
			w += "=" + b
		default:
			w += "?" + string(n.Kind)
		}
		if n.Kind != KindSymlink && (n.Kind == KindDir && n.Mode != 0o755 || n.Kind == KindFile && n.Mode != 0o644 || n.UID != 0 || n.GID != 0) {
			w += ":" + octal(n.Mode)
			if n.UID != 0 || n.GID != 0 {
				w += ":" + octal(uint32(n.UID)) + ":" + octal(uint32(n.GID))
			}
		}
		if n.Path != "." {
			out = append(out, w)
		}
		return nil
	}))
	return out
}

func octal(n uint32) string {
	if n < 8 {
		return string(rune('0' + n))
	}
	return octal(n/8) + octal(n%8)
}

func readNode(s Source, n *Node) (string, error) {
	f, err := s.Open(n)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, n.Size)
	_, err = f.Read(b)
	if n.Size == 0 {
		err = nil
	}
	return string(b), err
}

// layerOf makes a layer of a directory.
func layerOf(t testing.TB, dir string) Layer { return Layer{dir, scan(t, dir)} }

// build runs f on a builder over base and returns the view of base and the new
// layer. The manifest must be what a scan of the layer finds, and the view what
// an overlay mount shows.
func build(t testing.TB, base []Layer, f func(b *Builder) error) (*View, *Manifest, error) {
	t.Helper()
	dir := t.TempDir()
	b, err := OpenBuilder(t.Context(), NewView(base), dir)
	check(t, err)
	defer b.Close()
	if err := f(b); err != nil {
		return nil, nil, err
	}
	m, err := b.Finish()
	check(t, err)
	if diff := cmp.Diff(scan(t, dir), m); diff != "" {
		t.Errorf("manifest is not what is on disk (-disk +manifest):\n%s", diff)
	}
	v := NewView(append(slices.Clone(base), Layer{dir, m}))
	var dirs []string
	for _, l := range v.layers {
		dirs = append(dirs, l.Dir)
	}
	var mounted map[string]string
	mountStack(t, dirs, func(root string) (err error) {
		mounted, err = list(root)
		return err
	})
	if diff := cmp.Diff(mounted, listView(t, v)); diff != "" {
		t.Errorf("view differs from overlay (-overlay +view):\n%s", diff)
	}
	return v, m, nil
}

func ptr[T any](v T) *T { return &v }

const copySource = "f=1 g=2 .dot=3 d/x=4 d/.y=5 d/e/z=6:600:7:8 d/e/:750 empty/ exe:755 toF>f toD>d abs>/d/x d/in>../f dangling>nowhere " +
	"w/a1=a w/a2=b w/b1=c w/s/a3=d w/l>s [x]=q"

func TestCopy(t *testing.T) {
	for name, test := range map[string]struct {
		base string
		o    CopyOptions
		want string // what is new, or the whole tree
		err  string
	}{
		"file to new name":               {"", CopyOptions{Sources: []string{"f"}, Dest: "/n"}, "n=1", ""},
		"file into new directory":        {"", CopyOptions{Sources: []string{"f"}, Dest: "/n/"}, "n/ n/f=1", ""},
		"file into dot directory":        {"", CopyOptions{Sources: []string{"f"}, Dest: "/n/."}, "n/ n/f=1", ""},
		"file below missing parents":     {"", CopyOptions{Sources: []string{"f"}, Dest: "/a/b/n"}, "a/ a/b/ a/b/n=1", ""},
		"file into existing directory":   {"n/o", CopyOptions{Sources: []string{"f"}, Dest: "/n"}, "n/ n/f=1 n/o=", ""},
		"file over file":                 {"n=old:600:1:1", CopyOptions{Sources: []string{"f"}, Dest: "n"}, "n=1", ""},
		"file over file in directory":    {"n/f=old", CopyOptions{Sources: []string{"f"}, Dest: "n"}, "n/ n/f=1", ""},
		"file over directory":            {"n/f/x", CopyOptions{Sources: []string{"f"}, Dest: "n"}, "", "cannot replace the directory /n/f with a file"},
		"file to root":                   {"", CopyOptions{Sources: []string{"/f"}, Dest: "/"}, "f=1", ""},
		"file below a file":              {"n", CopyOptions{Sources: []string{"f"}, Dest: "n/"}, "", "not a directory"},
		"dest climbs":                    {"", CopyOptions{Sources: []string{"../../f"}, Dest: "/../n"}, "n=1", ""},
		"contents of directory":          {"", CopyOptions{Sources: []string{"d"}, Dest: "/n"}, "n/ n/.y=5 n/e/:750 n/e/z=6:600:7:10 n/in>../f n/x=4", ""},
		"contents with slash":            {"", CopyOptions{Sources: []string{"d/"}, Dest: "/n/"}, "n/ n/.y=5 n/e/:750 n/e/z=6:600:7:10 n/in>../f n/x=4", ""},
		"contents with dot":              {"", CopyOptions{Sources: []string{"d/."}, Dest: "n"}, "n/ n/.y=5 n/e/:750 n/e/z=6:600:7:10 n/in>../f n/x=4", ""},
		"empty directory":                {"", CopyOptions{Sources: []string{"empty"}, Dest: "n"}, "n/", ""},
		"directory merges":               {"n/:700:3:4 n/x=old n/k n/e/:711 n/e/k", CopyOptions{Sources: []string{"d"}, Dest: "n"}, "n/:700:3:4 n/.y=5 n/e/:750 n/e/k= n/e/z=6:600:7:10 n/in>../f n/k= n/x=4", ""},
		"directory over file":            {"n", CopyOptions{Sources: []string{"d"}, Dest: "n"}, "", "not a directory"},
		"subdirectory over file":         {"n/e", CopyOptions{Sources: []string{"d"}, Dest: "n"}, "", "cannot copy a directory to /n/e"},
		"subdirectory over symlink":      {"n/r/ n/e>r", CopyOptions{Sources: []string{"d"}, Dest: "n"}, "", "cannot copy a directory to /n/e"},
		"file over subdirectory":         {"n/x/", CopyOptions{Sources: []string{"d"}, Dest: "n"}, "", "cannot replace the directory /n/x"},
		"symlink source to file":         {"", CopyOptions{Sources: []string{"toF"}, Dest: "n/"}, "n/ n/toF=1", ""},
		"symlink source to directory":    {"", CopyOptions{Sources: []string{"toD"}, Dest: "n/"}, "n/ n/.y=5 n/e/:750 n/e/z=6:600:7:10 n/in>../f n/x=4", ""},
		"absolute symlink source":        {"", CopyOptions{Sources: []string{"abs"}, Dest: "n"}, "n=4", ""},
		"through a symlink":              {"", CopyOptions{Sources: []string{"toD/x"}, Dest: "n"}, "n=4", ""},
		"dangling source":                {"", CopyOptions{Sources: []string{"dangling"}, Dest: "n"}, "", `"nowhere" does not exist`},
		"missing source":                 {"", CopyOptions{Sources: []string{"./no"}, Dest: "n"}, "", `source "./no" does not exist`},
		"symlinked destination":          {"usr/lib/ lib>usr/lib", CopyOptions{Sources: []string{"f"}, Dest: "/lib/n"}, "lib>usr/lib usr/ usr/lib/ usr/lib/n=1", ""},
		"symlinked destination dir":      {"usr/lib/ lib>/usr/lib", CopyOptions{Sources: []string{"f"}, Dest: "/lib"}, "lib>/usr/lib usr/ usr/lib/ usr/lib/f=1", ""},
		"symlinked destination contents": {"usr/lib/ lib>/usr/lib", CopyOptions{Sources: []string{"empty", "w/s"}, Dest: "/lib/"}, "lib>/usr/lib usr/ usr/lib/ usr/lib/a3=d", ""},
		"dangling destination":           {"n>/new/t", CopyOptions{Sources: []string{"f"}, Dest: "/n"}, "n>/new/t new/ new/t=1", ""},
		"escaping destination":           {"n>../../../etc", CopyOptions{Sources: []string{"f"}, Dest: "/n/"}, "etc/ etc/f=1 n>../../../etc", ""},
		"symlink in directory replaced":  {"n/f>../keep keep=k", CopyOptions{Sources: []string{"f"}, Dest: "n/"}, "keep=k n/ n/f=1", ""},
		"dest symlink to file":           {"n>keep keep=k", CopyOptions{Sources: []string{"f"}, Dest: "n"}, "keep=1 n>keep", ""},
		"several sources":                {"", CopyOptions{Sources: []string{"f", "g", "empty"}, Dest: "n/"}, "n/ n/f=1 n/g=2", ""},
		"several sources no slash":       {"", CopyOptions{Sources: []string{"f", "g"}, Dest: "n"}, "", "several sources need a directory"},
		"several directories no slash":   {"", CopyOptions{Sources: []string{"w/s", "empty"}, Dest: "n"}, "n/ n/a3=d", ""},
		"wildcard":                       {"", CopyOptions{Sources: []string{"w/a*"}, Dest: "n/"}, "n/ n/a1=a n/a2=b", ""},
		"wildcard takes dotfiles":        {"", CopyOptions{Sources: []string{"d/*"}, Dest: "n/"}, "n/ n/.y=5 n/in=1 n/x=4 n/z=6:600:7:10", ""},
		"wildcard in directory":          {"", CopyOptions{Sources: []string{"w*/s/a?"}, Dest: "n/"}, "n/ n/a3=d", ""},
		"wildcard follows no directory":  {"", CopyOptions{Sources: []string{"w/[l]/a3", "w/s/*"}, Dest: "n/"}, "n/ n/a3=d", ""},
		"wildcard matches symlink":       {"", CopyOptions{Sources: []string{"to*"}, Dest: "n/"}, "n/ n/.y=5 n/e/:750 n/e/z=6:600:7:10 n/in>../f n/toF=1 n/x=4", ""},
		"wildcard escaped":               {"", CopyOptions{Sources: []string{`[[]x]`}, Dest: "n/"}, "n/ n/[x]=q", ""},
		"wildcard without match":         {"", CopyOptions{Sources: []string{"zz*", "f"}, Dest: "n/"}, "n/ n/f=1", ""},
		"wildcard below missing":         {"", CopyOptions{Sources: []string{"no/z*"}, Dest: "n/"}, "", `"no" does not exist`},
		"wildcard malformed":             {"", CopyOptions{Sources: []string{"[a"}, Dest: "n/"}, "", "syntax error"},
		"owner":                          {"", CopyOptions{Sources: []string{"d"}, Dest: "a/n", Owner: &Owner{5, 6}}, "a/:755:5:6 a/n/:755:5:6 a/n/.y=5:644:5:6 a/n/e/:750:5:6 a/n/e/z=6:600:5:6 a/n/in>../f a/n/x=4:644:5:6", ""},
		"mode":                           {"", CopyOptions{Sources: []string{"d/e"}, Dest: "a/n", Mode: ptr(uint32(0o4711))}, "a/:711 a/n/:711 a/n/z=6:4711:7:10", ""},
		"existing directory keeps owner": {"n/:700:1:2", CopyOptions{Sources: []string{"f"}, Dest: "n/", Owner: &Owner{5, 6}}, "n/:700:1:2 n/f=1:644:5:6", ""},
		"executable":                     {"", CopyOptions{Sources: []string{"exe"}, Dest: "n"}, "n=:755", ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := NewView([]Layer{layerOf(t, makeTree(t, copySource))})
			base := []Layer{layerOf(t, makeTree(t, test.base))}
			for _, link := range []bool{false, true} {
				o := test.o
				o.Link = link
				v, _, err := build(t, base, func(b *Builder) error {
					s, err := Select(t.Context(), src, o)
					if err != nil {
						return err
					}
					return b.Copy(s)
				})
				if test.err != "" {
					if err == nil || !strings.Contains(err.Error(), test.err) {
						t.Fatalf("got error %v, want %q", err, test.err)
					}
					continue
				}
				check(t, err)
				if diff := cmp.Diff(strings.Fields(test.want), describe(t, v)); diff != "" {
					t.Errorf("link %t (-want +got):\n%s", link, diff)
				}
			}
		})
	}
}

func TestMissingErrorMatchesNotExist(t *testing.T) {
	src := NewView([]Layer{layerOf(t, makeTree(t, "a/b"))})
	for _, pattern := range []string{"x", "a/c", "y/*"} {
		_, err := Select(t.Context(), src, CopyOptions{Sources: []string{pattern}})
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Pattern != pattern || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	s, err := Select(t.Context(), src, CopyOptions{Sources: []string{"a/*", "z*"}})
	check(t, err)
	if diff := cmp.Diff([]string{"z*"}, s.Unmatched); diff != "" {
		t.Error(diff)
	}
}

func TestCopyKeepsTimesLinksAttributes(t *testing.T) {
	dir := makeTree(t, "s/a=1 s/b+s/a s/sub/c+s/a s/plain=2 s/l>a")
	old := time.Unix(1234567890, 123456789)
	for _, p := range []string{"s/a", "s/plain", "s/sub", "s"} {
		check(t, os.Chtimes(filepath.Join(dir, p), old, old))
	}
	check(t, unix.Setxattr(filepath.Join(dir, "s/plain"), "security.capability", netBindCapability, 0))
	check(t, unix.Setxattr(filepath.Join(dir, "s/plain"), "user.note", []byte("n"), 0))
	view := NewView([]Layer{layerOf(t, dir)})
	c, err := OpenContext(dir, ContextOptions{})
	check(t, err)
	defer c.Close()
	for _, src := range []Source{view, c} {
		for _, o := range []CopyOptions{{}, {Link: true}, {Owner: &Owner{3, 4}}} {
			o.Sources, o.Dest = []string{"s"}, "n"
			v, m, err := build(t, nil, func(b *Builder) error {
				s, err := Select(t.Context(), src, o)
				check(t, err)
				return b.Copy(s)
			})
			check(t, err)
			for p, first := range map[string]string{"n/b": "n/a", "n/sub/c": "n/a"} {
				if e := m.Find(p); e == nil || e.Kind != KindHardlink || e.Link != first {
					t.Errorf("%T: %s is %+v, want a hard link to %s", src, p, e, first)
				}
			}
			want := map[string]string{"security.capability": string(netBindCapability), "user.note": "n"}
			if diff := cmp.Diff(want, m.Find("n/plain").Xattrs); diff != "" {
				t.Errorf("%T: attributes: %s", src, diff)
			}
			for _, p := range []string{"n/a", "n/plain", "n/sub", "n"} {
				fi, err := os.Stat(filepath.Join(v.layers[0].Dir, p))
				check(t, err)
				if !fi.ModTime().Equal(old) {
					t.Errorf("%T: %s dated %v, want %v", src, p, fi.ModTime(), old)
				}
			}
			var a, b unix.Stat_t
			check(t, unix.Lstat(filepath.Join(dir, "s/plain"), &a))
			check(t, unix.Lstat(filepath.Join(v.layers[0].Dir, "n/plain"), &b))
			if _, fromLayer := src.(*View); (a.Ino == b.Ino) != (o.Link && fromLayer) {
				t.Errorf("%T, %+v: shared inode: %t", src, o, a.Ino == b.Ino)
			}
		}
	}
}

func TestSelectionDigest(t *testing.T) {
	digest := func(words string, o CopyOptions) string {
		s, err := Select(t.Context(), NewView([]Layer{layerOf(t, makeTree(t, words))}), o)
		check(t, err)
		return string(s.Digest())
	}
	src := CopyOptions{Sources: []string{"d"}}
	base := digest("d/a=1 d/b>a d/e/", src)
	for name, same := range map[string]struct {
		words string
		o     CopyOptions
	}{
		"again":            {"d/a=1 d/b>a d/e/", src},
		"other directory":  {"x/a=1 x/b>a x/e/", CopyOptions{Sources: []string{"x"}}},
		"own mode of top":  {"d/:700:1:1 d/a=1 d/b>a d/e/", src},
		"unrelated files":  {"d/a=1 d/b>a d/e/ other", src},
		"same by override": {"d/a=1:600:3:3 d/b>a d/e/:755:3:3", CopyOptions{Sources: []string{"d"}}},
	} {
		got := digest(same.words, same.o)
		if (got == base) != (name != "same by override") {
			t.Errorf("%s: equal is %t", name, got == base)
		}
	}
	for name, words := range map[string]string{
		"content": "d/a=2 d/b>a d/e/", "mode": "d/a=1:600 d/b>a d/e/", "owner": "d/a=1:644:1:0 d/b>a d/e/", "target": "d/a=1 d/b>e d/e/",
		"name": "d/c=1 d/b>a d/e/", "added": "d/a=1 d/b>a d/e/ d/f", "removed": "d/a=1 d/b>a", "kind": "d/a=1 d/b>a d/e", "linked": "d/a=1 d/b+d/a d/e/",
	} {
		if digest(words, src) == base {
			t.Errorf("%s: digest does not change", name)
		}
	}
	file := digest("f=1 g=1", CopyOptions{Sources: []string{"f"}})
	if file == digest("f=1 g=1", CopyOptions{Sources: []string{"g"}}) {
		t.Error("the name of a file is not part of the digest")
	}
	if digest("f=1 g=1", CopyOptions{Sources: []string{"f"}, Mode: ptr(uint32(0o600))}) != digest("f=1:600", CopyOptions{Sources: []string{"f"}}) {
		t.Error("the mode of the copy is not what counts")
	}
}

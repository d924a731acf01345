package tree

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleManifest() *Manifest {
	d := digestBytes([]byte("x"))
	return &Manifest{Entries: []Entry{
		{Path: ".", Kind: KindDir, Mode: 0o755},
		{Path: " ", Kind: KindFile, Mode: 0o4755, UID: maxID, GID: 7, Size: 1 << 40, Digest: d},
		{Path: "a", Kind: KindDir, Mode: 0o1777, Opaque: true, Xattrs: map[string]string{"user.a=b": "", "user.c": "\x00\n \\=\xff"}},
		{Path: "a/\n", Kind: KindSymlink, Mode: 0o777, Link: "../ \\x"},
		{Path: "a/b", Kind: KindWhiteout},
		{Path: "a-b", Kind: KindChar, Mode: 0o666, Major: 1, Minor: 3},
		{Path: "b", Kind: KindBlock, Mode: 0o660, Major: 8},
		{Path: "p", Kind: KindFifo, Mode: 0o644, Xattrs: map[string]string{"security.capability": "\x01"}},
		{Path: "\xff\x80", Kind: KindHardlink, Link: " "},
	}}
}

func TestManifestRoundTrip(t *testing.T) {
	m := sampleManifest()
	got, err := DecodeManifest(m.Encode())
	check(t, err)
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	if m.Files() != 7 || m.Bytes() != 1<<40 {
		t.Errorf("Files %d, Bytes %d", m.Files(), m.Bytes())
	}
	for i := range m.Entries {
		if e := m.Find(m.Entries[i].Path); e != &m.Entries[i] {
			t.Errorf("Find(%q) = %v", m.Entries[i].Path, e)
		}
	}
	if e := m.Find("a/zz"); e != nil {
		t.Errorf("Find of a missing path: %v", e)
	}
}

// The digest is part of the on-disk format: layer ids are made of it.
func TestManifestDigestIsStable(t *testing.T) {
	const want = "sha256:1747e14ce966581fd44d40e052ee04baefba7a472e46a3108bfb854946dc374f"
	if got := sampleManifest().Digest(); got != want {
		t.Errorf("digest %s, want %s: a change of the format needs a new version", got, want)
	}
}

func TestDecodeManifestRefuses(t *testing.T) {
	const root, digest = "d 755 0 0 .\n", "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	for name, body := range map[string]string{
		"no root":                    "f 644 0 0 a 1 " + digest + "\n",
		"cut short":                  "d 755 0 0 .",
		"empty line":                 root + "\n",
		"unknown kind":               root + "x 755 0 0 a\n",
		"out of order":               root + "d 755 0 0 b\nd 755 0 0 a\n",
		"twice":                      root + "d 755 0 0 a\nd 755 0 0 a\n",
		"no parent":                  root + "d 755 0 0 a/b\n",
		"file as parent":             root + "p 644 0 0 a\nd 755 0 0 a/b\n",
		"parent is a prefix only":    root + "d 755 0 0 a\nd 755 0 0 a/x\nd 755 0 0 ab/c\n",
		"path up":                    root + "d 755 0 0 ..\n",
		"absolute path":              root + "d 755 0 0 /a\n",
		"NUL":                        root + "d 755 0 0 a\\00\n",
		"needless escape":            root + "d 755 0 0 a\\41\n",
		"broken escape":              root + "d 755 0 0 a\\2\n",
		"upper-case escape":          root + "d 755 0 0 a\\0A\n",
		"raw control byte":           root + "d 755 0 0 a\t\n",
		"leading zero":               root + "d 0755 0 0 a\n",
		"sign":                       root + "d 755 +1 0 a\n",
		"mode too large":             root + "d 17777 0 0 a\n",
		"id too large":               root + "d 755 4294967295 0 a\n",
		"negative size":              root + "f 644 0 0 a -1 " + digest + "\n",
		"short digest":               root + "f 644 0 0 a 1 sha256:2d\n",
		"other digest":               root + "f 644 0 0 a 1 " + strings.ToUpper(digest) + "\n",
		"no target":                  root + "l 777 0 0 a \n",
		"missing field":              root + "c 644 0 0 a 1\n",
		"trailing field":             root + "w a b\n",
		"trailing space":             root + "d 755 0 0 a \n",
		"attributes out of order":    root + "d 755 0 0 a user.b= user.a=\n",
		"attribute twice":            root + "d 755 0 0 a user.b= user.b=\n",
		"attribute without value":    root + "d 755 0 0 a user.b\n",
		"hard link to nothing":       root + "h a b\n",
		"hard link to a directory":   root + "d 755 0 0 a\nh b a\n",
		"hard link to a later entry": root + "h a b\np 644 0 0 b\n",
	} {
		if m, err := DecodeManifest([]byte(manifestHeader + body)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m.Entries)
		}
	}
	for _, b := range []string{"", "x", "stagecraft-tree 2\n" + root} {
		if _, err := DecodeManifest([]byte(b)); err == nil {
			t.Errorf("%q: accepted", b)
		}
	}
}

func TestComparePathsOrdersByComponent(t *testing.T) {
	sorted := []string{".", "!", "a", "a/b", "a/b/c", "a/b-c", "a/bc", "a b", "a-b", "a.b", "ab"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := ComparePaths(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("ComparePaths(%q, %q) = %d", a, b, got)
			}
		}
	}
	shuffled := slices.Clone(sorted)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, ComparePaths)
	if diff := cmp.Diff(sorted, shuffled); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add(sampleManifest().Encode())
	f.Add([]byte(manifestHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		if diff := cmp.Diff(string(b), string(m.Encode())); diff != "" {
			t.Errorf("accepted, but not the one encoding:\n%s", diff)
		}
	})
}

func bigManifest(files int) *Manifest {
	m := &Manifest{Entries: []Entry{{Path: ".", Kind: KindDir, Mode: 0o755}}}
	for d := range files / 100 {
		dir := fmt.Sprintf("src/node_modules/package%04d", d)
		if d == 0 {
			m.Entries = append(m.Entries, Entry{Path: "src", Kind: KindDir, Mode: 0o755}, Entry{Path: "src/node_modules", Kind: KindDir, Mode: 0o755})
		}
		m.Entries = append(m.Entries, Entry{Path: dir, Kind: KindDir, Mode: 0o755})
		for i := range 100 {
			p := fmt.Sprintf("%s/file%03d.js", dir, i)
			m.Entries = append(m.Entries, Entry{Path: p, Kind: KindFile, Mode: 0o644, Size: int64(i), Digest: digestBytes([]byte(p))})
		}
	}
	return m
}

func BenchmarkManifestEncode(b *testing.B) {
	m := bigManifest(20000)
	for b.Loop() {
		m.Encode()
	}
}

func BenchmarkManifestDecode(b *testing.B) {
	enc := bigManifest(20000).Encode()
	for b.Loop() {
		if _, err := DecodeManifest(enc); err != nil {
			b.Fatal(err)
		}
	}
}

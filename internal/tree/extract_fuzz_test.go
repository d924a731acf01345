package tree

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzExtract gives arbitrary bytes as a layer: whatever it is, nothing is
// written next to the directory, and what is accepted is what is on disk.
func FuzzExtract(f *testing.F) {
	f.Add(tarOf(f, tar.Header{Name: "a/b", Size: 3}, tar.Header{Name: "a/.wh.c"}, tar.Header{Name: "d/.wh..wh..opq"}))
	f.Add(tarOf(f, tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "../canary"}, tar.Header{Name: "s", Size: 9}))
	f.Add(tarOf(f, tar.Header{Name: "f", Mode: 0o755}, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "f"},
		tar.Header{Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "layer")
		check(t, os.Mkdir(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(outside, "canary"), []byte("alive"), 0o600))
		m, err := Extract(t.Context(), bytes.NewReader(b), dir, ExtractOptions{MaxBytes: 1 << 20, MaxEntries: 1000})
		left, readErr := os.ReadDir(outside)
		check(t, readErr)
		canary, readErr := os.ReadFile(filepath.Join(outside, "canary"))
		check(t, readErr)
		if len(left) != 2 || string(canary) != "alive" {
			t.Fatalf("written outside: %v, canary %q", left, canary)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(m, scan(t, dir)); diff != "" {
			t.Errorf("manifest is not what is on disk (-manifest +disk):\n%s", diff)
		}
		if _, err := DecodeManifest(m.Encode()); err != nil {
			t.Errorf("manifest does not decode: %v", err)
		}
	})
}

// FuzzAdd gives arbitrary bytes as an archive to unpack over a root with
// symlinks that lead up and away.
func FuzzAdd(f *testing.F) {
	base := []Layer{layerOf(f, makeTree(f, "r/d/x r/up>../../.. r/abs>/etc r/f=1 etc/passwd canary=alive"))}
	f.Add(tarOf(f, tar.Header{Name: "up/a", Size: 3}, tar.Header{Name: "abs/passwd"}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}))
	f.Add(tarOf(f, tar.Header{Name: "d"}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/../abs/x"}))
	f.Add(tarOf(f, tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "../canary"}, tar.Header{Name: "s/x"}, tar.Header{Name: "s"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "a"), data, 0o644))
		c, err := OpenContext(dir, ContextOptions{})
		check(t, err)
		defer c.Close()
		s, err := Select(t.Context(), c, CopyOptions{Sources: []string{"a"}, Dest: "r", Extract: true})
		check(t, err)
		out := filepath.Join(t.TempDir(), "layer")
		check(t, os.Mkdir(out, 0o755))
		b, err := OpenBuilder(t.Context(), NewView(base), out)
		check(t, err)
		defer b.Close()
		err = b.Copy(s)
		if err == nil {
			var m *Manifest
			if m, err = b.Finish(); err == nil {
				if diff := cmp.Diff(m, scan(t, out)); diff != "" {
					t.Errorf("manifest is not what is on disk (-manifest +disk):\n%s", diff)
				}
				for _, e := range m.Entries {
					if e.Path != "." && e.Path != "r" && len(e.Path) > 1 && e.Path[:2] != "r/" {
						t.Errorf("written outside the destination: %q", e.Path)
					}
				}
			}
		}
		left, readErr := os.ReadDir(filepath.Dir(out))
		check(t, readErr)
		if len(left) != 1 {
			t.Errorf("written outside: %v", left)
		}
	})
}

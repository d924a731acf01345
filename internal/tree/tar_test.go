package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func scan(t testing.TB, dir string) *Manifest {
	t.Helper()
	m, err := Scan(t.Context(), dir)
	check(t, err)
	return m
}

func TestRoundTripOfRandomTrees(t *testing.T) {
	for seed := range uint64(40) {
		dir := newRandomLayer(t, seed, true)
		m := scan(t, dir)
		decoded, err := DecodeManifest(m.Encode())
		check(t, err)
		if diff := cmp.Diff(m, decoded); diff != "" {
			t.Fatalf("seed %d: decoded manifest differs (-want +got):\n%s", seed, diff)
		}
		var first, second bytes.Buffer
		check(t, WriteTar(t.Context(), &first, dir, m))
		out := t.TempDir()
		extracted, err := Extract(t.Context(), bytes.NewReader(first.Bytes()), out, ExtractOptions{})
		check(t, err)
		if diff := cmp.Diff(m, extracted); diff != "" {
			t.Fatalf("seed %d: extracted manifest differs (-want +got):\n%s", seed, diff)
		}
		if diff := cmp.Diff(m, scan(t, out)); diff != "" {
			t.Fatalf("seed %d: scan of the extracted tree differs (-want +got):\n%s", seed, diff)
		}
		check(t, WriteTar(t.Context(), &second, out, extracted))
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d: tar of the extracted tree differs, times are lost", seed)
		}
	}
}

func TestWriteTarFindsCorruption(t *testing.T) {
	for name, corrupt := range map[string]func(p string) error{
		"flipped": func(p string) error { return os.WriteFile(p, []byte("worlt"), 0o644) },
		"cut":     func(p string) error { return os.Truncate(p, 3) },
		"gone":    os.Remove,
		"symlink": func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"fifo":    func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) },
		"parent": func(p string) error {
			d := filepath.Dir(p)
			return errors.Join(os.Rename(d, d+".real"), os.Symlink("d.real", d))
		},
	} {
		for _, size := range []int{5, smallFile + 5} {
			dir := t.TempDir()
			check(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
			p := filepath.Join(dir, "d", "f")
			check(t, os.WriteFile(p, append([]byte("world"), make([]byte, size-5)...), 0o644))
			m := scan(t, dir)
			if name == "flipped" && size > 5 {
				f, err := os.OpenFile(p, os.O_WRONLY, 0)
				check(t, err)
				_, err = f.WriteAt([]byte("x"), int64(size-1))
				check(t, errors.Join(err, f.Close()))
			} else {
				check(t, corrupt(p))
			}
			err := WriteTar(t.Context(), &bytes.Buffer{}, dir, m)
			var corruptErr *CorruptError
			if !errors.As(err, &corruptErr) {
				t.Errorf("%s, %d bytes: got %v, want a CorruptError", name, size, err)
			}
		}
	}
}

// tarOf builds an archive; an entry with a size and no data gets zeros.
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.ModTime = time.Unix(1e9, 0)
		check(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write(make([]byte, h.Size))
			check(t, err)
		}
	}
	check(t, w.Close())
	return b.Bytes()
}

func TestExtractRefusesHostileArchives(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 256))
	deep := string(bytes.Repeat([]byte("abcdefg/"), 600))
	symlink := tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "/etc"}
	tests := map[string][]tar.Header{
		"path up":                    {{Name: "../x"}},
		"path up inside":             {{Name: "a/../../x"}},
		"absolute path up":           {{Name: "/../x"}},
		"dot dot":                    {{Name: "..", Typeflag: tar.TypeDir}},
		"root as a file":             {{Name: "./", Typeflag: tar.TypeDir}, {Name: ".", Typeflag: tar.TypeSymlink, Linkname: "/etc"}},
		"file below a symlink":       {symlink, {Name: "s/passwd"}},
		"directory below a symlink":  {symlink, {Name: "s/d", Typeflag: tar.TypeDir}},
		"whiteout below a symlink":   {symlink, {Name: "s/.wh.passwd"}},
		"opaque below a symlink":     {symlink, {Name: "s/.wh..wh..opq"}},
		"deep below a symlink":       {symlink, {Name: "s/a/b/c"}},
		"file below a file":          {{Name: "f"}, {Name: "f/x"}},
		"hard link up":               {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
		"hard link absolute":         {{Name: "h", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"hard link through symlink":  {symlink, {Name: "h", Typeflag: tar.TypeLink, Linkname: "s/passwd"}},
		"hard link to a directory":   {{Name: "d", Typeflag: tar.TypeDir}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "d"}},
		"hard link to nothing":       {{Name: "h", Typeflag: tar.TypeLink, Linkname: "bin/busybox"}},
		"hard link over its parent":  {{Name: "d/f"}, {Name: "d", Typeflag: tar.TypeLink, Linkname: "d/f"}},
		"hard link to a whiteout":    {{Name: ".wh.x"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "x"}},
		"character device":           {{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"block device":               {{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}},
		"whiteout device":            {{Name: "w", Typeflag: tar.TypeChar}},
		"whiteout of dot dot":        {{Name: ".wh..."}},
		"whiteout of nothing":        {{Name: ".wh."}},
		"below a whiteout":           {{Name: ".wh.d/f"}},
		"long name":                  {{Name: long}},
		"long path":                  {{Name: deep + "f"}},
		"owner out of range":         {{Name: "f", Uid: 1 << 32}},
		"more bytes than allowed":    {{Name: "a", Size: 600}, {Name: "b", Size: 500}},
		"more entries than allowed":  {{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}, {Name: "f"}},
		"symlink with a long target": {{Name: "s", Typeflag: tar.TypeSymlink, Linkname: deep}},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			dir := filepath.Join(outside, "layer")
			check(t, os.Mkdir(dir, 0o755))
			_, err := Extract(t.Context(), bytes.NewReader(tarOf(t, entries...)), dir, ExtractOptions{MaxBytes: 1000, MaxEntries: 5})
			var hostile *HostileError
			if !errors.As(err, &hostile) {
				t.Fatalf("got %v, want a HostileError", err)
			}
			left, err := os.ReadDir(outside)
			check(t, err)
			if len(left) != 1 {
				t.Errorf("written outside: %v", left)
			}
		})
	}
}

func TestExtractRefusesAbsurdSizeBeforeWriting(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, w.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 1 << 50}))
	dir := t.TempDir()
	_, err := Extract(t.Context(), &b, dir, ExtractOptions{})
	var hostile *HostileError
	if !errors.As(err, &hostile) || hostile.Path != "big" {
		t.Fatalf("got %v, want a HostileError for big", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "big")); err == nil {
		t.Error("the file was begun")
	}
}

func TestExtractRefusesTruncation(t *testing.T) {
	whole := tarOf(t, tar.Header{Name: "a", Size: 5000}, tar.Header{Name: "b", Size: smallFile * 2})
	for _, n := range []int{100, 600, 1500, 5000, 7000, 200000} {
		if _, err := Extract(t.Context(), bytes.NewReader(whole[:n]), t.TempDir(), ExtractOptions{}); err == nil {
			t.Errorf("cut at %d of %d bytes: no error", n, len(whole))
		}
	}
}

func TestExtractForms(t *testing.T) {
	dirEntry := func(p string) Entry { return Entry{Path: p, Kind: KindDir, Mode: 0o755} }
	empty := digestBytes(nil)
	file := func(p string) Entry { return Entry{Path: p, Kind: KindFile, Digest: empty} }
	opaque := func(p string) Entry { e := dirEntry(p); e.Opaque = true; return e }
	tests := map[string]struct {
		in   []tar.Header
		want []Entry
	}{
		"absolute names are relative": {
			[]tar.Header{{Name: "/a/b"}}, []Entry{dirEntry("."), dirEntry("a"), file("a/b")},
		},
		"later wins": {
			[]tar.Header{{Name: "a", Typeflag: tar.TypeDir}, {Name: "a/b"}, {Name: "a"}, {Name: "c"}, {Name: "c", Typeflag: tar.TypeDir, Mode: 0o755}},
			[]Entry{dirEntry("."), file("a"), dirEntry("c")},
		},
		"directory listed again keeps its content": {
			[]tar.Header{{Name: "a/b"}, {Name: "a/", Typeflag: tar.TypeDir, Mode: 0o700}},
			[]Entry{dirEntry("."), {Path: "a", Kind: KindDir, Mode: 0o700}, file("a/b")},
		},
		"whiteout": {
			[]tar.Header{{Name: "d/.wh.x"}}, []Entry{dirEntry("."), dirEntry("d"), {Path: "d/x", Kind: KindWhiteout}},
		},
		"opaque before and after": {
			[]tar.Header{{Name: "d/.wh..wh..opq"}, {Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "e/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "e/.wh..wh..opq"}},
			[]Entry{dirEntry("."), opaque("d"), opaque("e")},
		},
		"whiteout does not hide its own layer": {
			[]tar.Header{{Name: "f"}, {Name: ".wh.f"}, {Name: "d/x"}, {Name: ".wh.d"}, {Name: ".wh.g"}, {Name: "g"}, {Name: ".wh.h"}, {Name: "h/x"}},
			[]Entry{dirEntry("."), opaque("d"), file("d/x"), file("f"), file("g"), opaque("h"), file("h/x")},
		},
		"whiteouts where nothing is below": {
			[]tar.Header{{Name: "d/.wh.x"}, {Name: "d/e/.wh.y"}, {Name: "d/e/f"}, {Name: "d/.wh..wh..opq"}},
			[]Entry{dirEntry("."), opaque("d"), dirEntry("d/e"), file("d/e/f")},
		},
		"aufs bookkeeping is skipped": {
			[]tar.Header{{Name: ".wh..wh.plnk", Typeflag: tar.TypeDir}, {Name: ".wh..wh.plnk/12.3"}, {Name: ".wh..wh.aufs"}}, []Entry{dirEntry(".")},
		},
		"hard link whose first name sorts last": {
			[]tar.Header{{Name: "z", Mode: 0o755}, {Name: "a", Typeflag: tar.TypeLink, Linkname: "z"}, {Name: "z", Typeflag: tar.TypeLink, Linkname: "/z"}},
			[]Entry{dirEntry("."), {Path: "a", Kind: KindFile, Mode: 0o755, Digest: empty}, {Path: "z", Kind: KindHardlink, Link: "a"}},
		},
		"hard link to what is replaced later": {
			[]tar.Header{{Name: "a", Mode: 0o755}, {Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}, {Name: "a"}},
			[]Entry{dirEntry("."), file("a"), {Path: "b", Kind: KindFile, Mode: 0o755, Digest: empty}},
		},
		"no trusted attributes": {
			[]tar.Header{{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{
				"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y",
				"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.selinux": "l",
			}}},
			[]Entry{dirEntry("."), {Path: "a", Kind: KindDir, Mode: 0o755, Xattrs: map[string]string{"user.k": "v"}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m, err := Extract(t.Context(), bytes.NewReader(tarOf(t, test.in...)), dir, ExtractOptions{})
			check(t, err)
			if diff := cmp.Diff(test.want, m.Entries); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, scan(t, dir).Entries); diff != "" {
				t.Errorf("scan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtractAllowsDevicesWhenAsked(t *testing.T) {
	b := tarOf(t, tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3})
	dir := t.TempDir()
	m, err := Extract(t.Context(), bytes.NewReader(b), dir, ExtractOptions{AllowDevices: true})
	check(t, err)
	want := Entry{Path: "null", Kind: KindChar, Mode: 0o666, Major: 1, Minor: 3}
	if diff := cmp.Diff([]Entry{want}, m.Entries[1:]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(m, scan(t, dir)); diff != "" {
		t.Error(diff)
	}
}

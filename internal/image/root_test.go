package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/cache"
	"stagecraft/internal/testkit"
	"stagecraft/internal/tree"
)

// stacked are two layers: the upper one replaces, hides and adds.
func stacked(t *testing.T, store *cache.Store) []tree.Layer {
	t.Helper()
	lower := testkit.Tar(
		testkit.Entry{Name: "bin/", Mode: 0o755},
		testkit.Entry{Name: "bin/tool", Mode: 0o4755, UID: 7, GID: 8, Data: []byte("tool")},
		testkit.Entry{Name: "bin/same", HardLink: "bin/tool"},
		testkit.Entry{Name: "etc/", Mode: 0o750},
		testkit.Entry{Name: "etc/conf", Mode: 0o600, Data: []byte("old")},
		testkit.Entry{Name: "etc/gone", Mode: 0o644, Data: []byte("gone")},
		testkit.Entry{Name: "link", Link: "/etc/passwd"},
		testkit.Entry{Name: "pipe", Header: &tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600, ModTime: testkit.Epoch}})
	upper := testkit.Tar(
		testkit.Entry{Name: "etc/", Mode: 0o755},
		testkit.Entry{Name: "etc/.wh.gone"},
		testkit.Entry{Name: "etc/conf", Mode: 0o640, Data: []byte("new")})
	var layers []tree.Layer
	for _, l := range []*cache.Layer{builtLayer(t, store, lower), builtLayer(t, store, upper)} {
		m, err := LayerManifest(store, l)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, tree.Layer{Dir: l.Dir, Manifest: m})
	}
	return layers
}

func TestWriteRootTar(t *testing.T) {
	layers := stacked(t, openStore(t))
	var buf, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&buf, &again} {
		if err := WriteRootTar(t.Context(), layers, w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(buf.Bytes(), again.Bytes()) {
		t.Error("two tars of the same layers differ")
	}
	type entry struct {
		Name, Link, Data string
		Mode             int64
		UID              int
	}
	var got []entry
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(testkit.Epoch) {
			t.Errorf("%s is dated %v", h.Name, h.ModTime)
		}
		got = append(got, entry{h.Name, h.Linkname, string(b), h.Mode, h.Uid})
	}
	want := []entry{
		{"bin/", "", "", 0o755, 0},
		{"bin/same", "", "tool", 0o4755, 7},
		{"bin/tool", "bin/same", "", 0o4755, 7},
		{"etc/", "", "", 0o755, 0},
		{"etc/conf", "", "new", 0o640, 0},
		{"link", "/etc/passwd", "", 0o777, 0},
		{"pipe", "", "", 0o600, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestWriteFiles(t *testing.T) {
	layers := stacked(t, openStore(t))
	parent := t.TempDir()
	outside := filepath.Join(parent, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	existing := filepath.Join(parent, "existing")
	if err := os.MkdirAll(filepath.Join(existing, "link"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(existing, "mine"), []byte("mine"))
	// A symlink in the way must not lead the files elsewhere.
	if err := os.Symlink(outside, filepath.Join(existing, "bin")); err != nil {
		t.Fatal(err)
	}
	for _, dest := range []string{filepath.Join(parent, "new"), existing} {
		if err := WriteFiles(t.Context(), layers, dest); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dest, "etc/conf")); err != nil || string(b) != "new" {
			t.Errorf("etc/conf: %q %v", b, err)
		}
		if _, err := os.Lstat(filepath.Join(dest, "etc/gone")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("etc/gone: %v", err)
		}
		if to, err := os.Readlink(filepath.Join(dest, "link")); err != nil || to != "/etc/passwd" {
			t.Errorf("link: %q %v", to, err)
		}
		info, err := os.Stat(filepath.Join(dest, "bin/tool"))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != 0o755|fs.ModeSetuid || st.Nlink != 2 || int(st.Uid) != os.Getuid() || !info.ModTime().Equal(testkit.Epoch) {
			t.Errorf("bin/tool: %v, %d links, owner %d, %v", info.Mode(), st.Nlink, st.Uid, info.ModTime())
		}
		if info, err = os.Stat(filepath.Join(dest, "etc")); err != nil || !info.ModTime().Equal(testkit.Epoch) || info.Mode().Perm() != 0o755 {
			t.Errorf("etc: %v %v", info, err)
		}
		if info, err = os.Stat(filepath.Join(dest, "pipe")); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
			t.Errorf("pipe: %v %v", info, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(existing, "mine")); err != nil || string(b) != "mine" {
		t.Errorf("the user's file: %q %v", b, err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside: %v %v", left, err)
	}
}

func TestWriteFilesFindsDamage(t *testing.T) {
	layers := stacked(t, openStore(t))
	put(t, filepath.Join(layers[1].Dir, "etc/conf"), []byte("bad"))
	parent := t.TempDir()
	err := WriteFiles(t.Context(), layers, filepath.Join(parent, "new"))
	wantError[*CorruptError](t, err)
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	wantError[*CorruptError](t, WriteRootTar(t.Context(), layers, io.Discard))
}

package image

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

func TestParseLayout(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]Layout{
		"oci-layout:///a/b":           {Path: "/a/b"},
		"oci-layout://a/b:1":          {Path: "a/b", Tag: "1"},
		"oci-layout://./a.b:c/d":      {Path: "./a.b:c/d"},
		"oci-layout:///a:1@" + d:      {Path: "/a", Tag: "1", Digest: oci.Digest(d)},
		"dir@" + d:                    {Path: "dir", Digest: oci.Digest(d)},
		"oci-layout:///img.tar:stage": {Path: "/img.tar", Tag: "stage"},
	} {
		got, err := ParseLayout(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
		if back, err := ParseLayout(got.String()); err != nil || back != got {
			t.Errorf("%s: written as %s", text, got)
		}
	}
	for _, text := range []string{"", "oci-layout://", "oci-layout://a:", "oci-layout://a@sha256:12", ":x"} {
		if l, err := ParseLayout(text); err == nil {
			t.Errorf("%q became %+v", text, l)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	f.Add("oci-layout://a/b:1")
	f.Add("x@sha256:" + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLayout(s)
		if err != nil {
			return
		}
		if l.Path == "" {
			t.Errorf("%q has no path", s)
		}
	})
}

func TestLayoutResolve(t *testing.T) {
	dir := t.TempDir()
	one, two := testkit.Image(t, testkit.ImageOptions{Seed: 1}), testkit.Image(t, testkit.ImageOptions{Seed: 2, Docker: true})
	arm := testkit.Image(t, testkit.ImageOptions{Seed: 3, Architecture: "arm64"})
	testkit.AddToLayout(t, dir, "1", one)
	if got := resolve(t, Layout{Path: dir}, "whatever:9"); got.Digest != digestOf(t, one) {
		t.Errorf("the only image: got %s", got.Digest)
	}
	testkit.AddToLayout(t, dir, "docker.io/library/two:2", two)
	testkit.AddIndexToLayout(t, dir, "multi", testkit.Index(t, arm, two))
	for _, test := range []struct {
		layout Layout
		ref    string
		want   oci.Digest
	}{
		{Layout{Path: dir, Tag: "1"}, "", digestOf(t, one)},
		{Layout{Path: dir}, "any:1", digestOf(t, one)},
		{Layout{Path: dir}, "two:2", digestOf(t, two)},
		{Layout{Path: dir, Tag: "two:2"}, "", digestOf(t, two)},
		{Layout{Path: dir, Digest: digestOf(t, two)}, "", digestOf(t, two)},
		{Layout{Path: dir, Tag: "multi"}, "", digestOf(t, two)},
	} {
		var ref oci.Reference
		if test.ref != "" {
			ref = parseRef(t, test.ref)
		}
		img, err := test.layout.Resolve(t.Context(), ref, amd64)
		if err != nil {
			t.Errorf("%s %s: %v", test.layout, test.ref, err)
			continue
		}
		if img.Digest != test.want {
			t.Errorf("%s %s: got %s, want %s", test.layout, test.ref, img.Digest, test.want)
		}
		if err := ValidateImage(t.Context(), img); err != nil {
			t.Error(err)
		}
	}
	_, err := Layout{Path: dir}.Resolve(t.Context(), oci.Reference{}, amd64)
	if nf := wantError[*NotFoundError](t, err); !strings.Contains(nf.Reason, "multi") {
		t.Errorf("%q does not list the images", nf.Reason)
	}
	_, err = Layout{Path: dir, Tag: "3"}.Resolve(t.Context(), oci.Reference{}, amd64)
	wantError[*NotFoundError](t, err)
	_, err = Layout{Path: dir, Tag: "multi"}.Resolve(t.Context(), oci.Reference{}, oci.Platform{OS: "linux", Architecture: "riscv64"})
	wantError[*NotFoundError](t, err)
}

func TestLayoutErrors(t *testing.T) {
	_, err := Layout{Path: filepath.Join(t.TempDir(), "none")}.Resolve(t.Context(), oci.Reference{}, amd64)
	wantError[*NotFoundError](t, err)
	_, err = Layout{Path: t.TempDir()}.Resolve(t.Context(), oci.Reference{}, amd64)
	wantError[*InvalidError](t, err)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("no tar "), 200), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Layout{Path: file}.Resolve(t.Context(), oci.Reference{}, amd64)
	wantError[*InvalidError](t, err)

	dir := t.TempDir()
	img := testkit.Image(t, testkit.ImageOptions{Seed: 1})
	testkit.AddToLayout(t, dir, "1", img)
	layout := Layout{Path: dir, Tag: "1"}
	resolved := resolve(t, layout, "x")
	layer := filepath.Join(dir, blobName(resolved.Manifest.Layers[0].Digest))
	b, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layer, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = layerBytes(t.Context(), resolved, 0)
	wantError[*CorruptError](t, err)
	if err := os.Remove(layer); err != nil {
		t.Fatal(err)
	}
	_, err = layerBytes(t.Context(), resolved, 0)
	wantError[*NotFoundError](t, err)
	// A layout that was made to read other files of the machine.
	if err := os.Symlink("/etc/passwd", layer); err != nil {
		t.Fatal(err)
	}
	if b, err := layerBytes(t.Context(), resolved, 0); err == nil {
		t.Errorf("read %d bytes outside the layout", len(b))
	}
}

// refs parses image names.
func refs(t testing.TB, names ...string) (all []oci.Reference) {
	for _, n := range names {
		all = append(all, parseRef(t, n))
	}
	return all
}

// built is an assembled image of one random layer.
func built(t testing.TB, store *cache.Store, seed uint64) *Image {
	t.Helper()
	l := builtLayer(t, store, testkit.RandomLayer(seed, 4, 1000))
	return assemble(t, store, pack(t, store, l, PackOptions{}))
}

func writeTo(t testing.TB, img *Image, dir string, names ...string) {
	t.Helper()
	if err := WriteLayout(t.Context(), img, refs(t, names...), dir); err != nil {
		t.Fatal(err)
	}
	if err := ValidateLayout(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func TestWriteLayout(t *testing.T) {
	store := openStore(t)
	dir := filepath.Join(t.TempDir(), "out")
	a, b := built(t, store, 1), built(t, store, 2)
	writeTo(t, a, dir, "app:1", "app:2")
	writeTo(t, b, dir, "app:2", "other/app:9")
	for name, want := range map[string]*Image{"app:1": a, "app:2": b, "other/app:9": b} {
		if got := resolve(t, Layout{Path: dir}, name); got.Digest != want.Digest {
			t.Errorf("%s is %s, want %s", name, got.Digest, want.Digest)
		}
	}
	index := readIndex(t, dir)
	if len(index.Manifests) != 3 || index.Manifests[0].Annotations[v1.AnnotationRefName] != "1" ||
		index.Manifests[0].Annotations[annotationContainerd] != "docker.io/library/app:1" {
		t.Errorf("index.json: %+v", index.Manifests)
	}
	// The last name of a moves: its blobs go.
	writeTo(t, b, dir, "app:1")
	if _, err := os.Stat(filepath.Join(dir, blobName(a.Digest))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob of a replaced image is still there: %v", err)
	}
	// The same image again changes nothing.
	before := treeOf(t, dir)
	writeTo(t, b, dir, "app:1")
	if diff := cmp.Diff(before, treeOf(t, dir)); diff != "" {
		t.Errorf("writing the same again (-before +after):\n%s", diff)
	}
}

func readIndex(t testing.TB, dir string) *oci.Index {
	t.Helper()
	files, err := openLayoutFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	index, err := Layout{Path: dir}.index(files)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// treeOf maps the files of a directory to their content.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var b []byte
			b, err = os.ReadFile(path)
			all[strings.TrimPrefix(path, dir)] = string(b)
		} else if err == nil {
			all[strings.TrimPrefix(path, dir)] = e.Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWriteLayoutUnnamed(t *testing.T) {
	store := openStore(t)
	dir := t.TempDir() // an existing, empty directory
	a, b := built(t, store, 1), built(t, store, 2)
	writeTo(t, a, dir)
	writeTo(t, b, dir)
	if got := readIndex(t, dir); len(got.Manifests) != 1 || got.Manifests[0].Digest != b.Digest {
		t.Errorf("index.json: %+v", got.Manifests)
	}
}

// What a writer that was killed left does not stay in the layout for good.
func TestWriteLayoutClearsUnfinished(t *testing.T) {
	store := openStore(t)
	dir := t.TempDir()
	writeTo(t, built(t, store, 1), dir, "app:1")
	for _, name := range []string{"blobs/sha256/.0123.456", ".index.json.789", ".oci-layout.1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeTo(t, built(t, store, 2), dir, "app:2") // validates: a stray file is a fault
}

func TestWriteLayoutErrorsLeaveNothing(t *testing.T) {
	store := openStore(t)
	good, bad := built(t, store, 1), built(t, store, 2)
	// A fresh directory, an empty one, a layout.
	parent := t.TempDir()
	empty, layout := filepath.Join(parent, "empty"), filepath.Join(parent, "layout")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	writeTo(t, good, layout, "app:1")
	before := treeOf(t, parent)
	for _, dest := range []string{filepath.Join(parent, "new"), empty, layout} {
		pack(t, store, builtLayer(t, store, testkit.RandomLayer(2, 4, 1000)), PackOptions{})
		flipBlob(t, store, bad.Manifest.Layers[0].Digest)
		err := WriteLayout(t.Context(), bad, refs(t, "app:1"), dest)
		wantError[*CorruptError](t, err)
		if diff := cmp.Diff(before, treeOf(t, parent)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", dest, diff)
		}
	}
	// The damaged blob is gone from the store, so that packing makes it anew.
	if store.HasBlob(bad.Manifest.Layers[0].Digest) {
		t.Error("the damaged blob is still in the store")
	}
	if err := os.WriteFile(filepath.Join(empty, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteLayout(t.Context(), good, nil, empty); err == nil {
		t.Error("a directory with other files became a layout")
	}
}

func TestWriteArchive(t *testing.T) {
	store := openStore(t)
	img := built(t, store, 1)
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := WriteArchive(t.Context(), img, refs(t, "app:1"), w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of one image differ")
	}
	path := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(path, first.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ValidateLayout(t.Context(), path); err != nil {
		t.Error(err)
	}
	// An archive is a source, too.
	got := resolve(t, Layout{Path: path}, "app:1")
	if got.Digest != img.Digest {
		t.Errorf("read back %s", got.Digest)
	}
	if _, err := EnsureLayers(t.Context(), openStore(t), got); err != nil {
		t.Error(err)
	}
}

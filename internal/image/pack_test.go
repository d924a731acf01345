package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
	"stagecraft/internal/tree"
)

// builtLayer commits a layer as a build does: its id is its manifest's digest.
func builtLayer(t testing.TB, store *cache.Store, layerTar []byte) *cache.Layer {
	t.Helper()
	dir, err := store.TempDir("test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := tree.Extract(t.Context(), bytes.NewReader(layerTar), dir, tree.ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := store.PutBlob(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	l, err := store.CommitLayer(dir, cache.Layer{ID: m.Digest(), Manifest: encoded, Files: m.Files(), Bytes: m.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func pack(t testing.TB, store *cache.Store, l *cache.Layer, o PackOptions) Packed {
	t.Helper()
	p, err := Pack(t.Context(), store, l, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPackIsDeterministic(t *testing.T) {
	layerTar := testkit.RandomLayer(1, 30, 200_000) // several blocks
	for _, c := range []Compression{Gzip, Zstd, Uncompressed} {
		t.Run(string(c), func(t *testing.T) {
			var first Packed
			for n, threads := range []int{1, 2, 7} {
				store := openStore(t)
				p := pack(t, store, builtLayer(t, store, layerTar), PackOptions{Compression: c, Threads: threads})
				if n == 0 {
					first = p
				} else if p.Descriptor.Digest != first.Descriptor.Digest || p.DiffID != first.DiffID {
					t.Errorf("%d threads make %s, 1 thread %s", threads, p.Descriptor.Digest, first.Descriptor.Digest)
				}
				d, size, err := DiffID(t.Context(), store, builtLayer(t, store, layerTar))
				if err != nil || d != p.DiffID || size != p.TarSize {
					t.Errorf("DiffID %s %d %v, packed %s %d", d, size, err, p.DiffID, p.TarSize)
				}
			}
			store := openStore(t)
			img := assemble(t, store, pack(t, store, builtLayer(t, store, layerTar), PackOptions{Compression: c}))
			if err := ValidateImage(t.Context(), img); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDiffIDFirstThenPack(t *testing.T) {
	store := openStore(t)
	l := builtLayer(t, store, testkit.RandomLayer(1, 5, 100))
	d, size, err := DiffID(t.Context(), store, l)
	if err != nil {
		t.Fatal(err)
	}
	if p := pack(t, store, l, PackOptions{}); p.DiffID != d || p.TarSize != size {
		t.Errorf("packed %s %d, DiffID said %s %d", p.DiffID, p.TarSize, d, size)
	}
}

func TestGzipHeaderTellsNothing(t *testing.T) {
	store := openStore(t)
	p := pack(t, store, builtLayer(t, store, testkit.RandomLayer(1, 3, 100)), PackOptions{})
	b, err := store.ReadBlob(p.Descriptor.Digest)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 1952: magic, deflate, no flags, no time.
	if want := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0}; !bytes.HasPrefix(b, want) {
		t.Errorf("header % x, want % x", b[:10], want)
	}
}

func TestPackIsRemembered(t *testing.T) {
	store := openStore(t)
	l := builtLayer(t, store, testkit.RandomLayer(1, 5, 100))
	first := pack(t, store, l, PackOptions{})
	// If it were packed again the changed file would be noticed.
	if err := os.WriteFile(filepath.Join(l.Dir, "etc", "file-1-0"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := pack(t, store, l, PackOptions{}); again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("got %s, want the remembered %s", again.Descriptor.Digest, first.Descriptor.Digest)
	}
	if err := store.RemoveBlob(first.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), store, l, PackOptions{}); err == nil {
		t.Error("a changed layer was packed")
	}
	if _, err := store.Layer(l.ID); err == nil {
		t.Error("the damaged layer is still offered")
	}
}

func TestPackKeepsPulledLayers(t *testing.T) {
	store := openStore(t)
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 2})
	img := resolve(t, client(nil), name)
	layers, err := EnsureLayers(t.Context(), store, img)
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range layers {
		p := pack(t, store, l, PackOptions{Compression: Zstd})
		if p.Descriptor.Digest != img.Manifest.Layers[n].Digest || p.DiffID != img.LayerIDs[n] {
			t.Errorf("layer %d became %s", n, p.Descriptor.Digest)
		}
	}
	// Lost bytes come from the image again.
	want := img.Manifest.Layers[0].Digest
	if err := store.RemoveBlob(want); err != nil {
		t.Fatal(err)
	}
	if p := pack(t, store, layers[0], PackOptions{Bases: []*Image{img}}); p.Descriptor.Digest != want {
		t.Errorf("fetched again: %s", p.Descriptor.Digest)
	}
	// And where that cannot be, the layer is packed anew and says so by its
	// diffID.
	if err := store.RemoveBlob(want); err != nil {
		t.Fatal(err)
	}
	reg.Close()
	p := pack(t, store, layers[0], PackOptions{Bases: []*Image{img}})
	made := assemble(t, store, p)
	if err := ValidateImage(t.Context(), made); err != nil {
		t.Error(err)
	}
}

func TestPackBaseWithoutUnpacking(t *testing.T) {
	store := openStore(t)
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 1, Docker: true})
	img := resolve(t, client(nil), name)
	for range 2 {
		p, err := PackBase(t.Context(), store, img, 0, PackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Descriptor.Digest != img.Manifest.Layers[0].Digest || p.DiffID != img.LayerIDs[0] {
			t.Errorf("got %+v", p)
		}
		if _, err := store.Layer(img.LayerIDs[0]); err == nil {
			t.Error("the layer was unpacked")
		}
		reg.Close() // the second time needs no registry
	}
	p, err := PackBase(t.Context(), store, img, 0, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateImage(t.Context(), assemble(t, store, p)); err != nil {
		t.Errorf("a Docker layer in an OCI image: %v", err)
	}
}

// assemble makes an image for amd64.
func assemble(t testing.TB, store *cache.Store, layers ...Packed) *Image {
	t.Helper()
	img, err := Assemble(store, testConfig(len(layers)), layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func testConfig(layers int) oci.Image {
	var c oci.Image
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Env = []string{"PATH=/usr/bin:/bin", "A=<b> & \"c\""}
	c.Config.Cmd = []string{"/bin/true"}
	c.Config.Labels = map[string]string{"b": "2", "a": "1"}
	created := time.Unix(1_700_000_000, 0).UTC()
	c.Created = &created
	for range layers {
		c.History = append(c.History, oci.History{CreatedBy: "RUN it", Created: &created},
			oci.History{CreatedBy: "ENV it", EmptyLayer: true, Created: &created})
	}
	return c
}

func TestAssemble(t *testing.T) {
	store := openStore(t)
	p := pack(t, store, builtLayer(t, store, testkit.RandomLayer(1, 5, 100)), PackOptions{})
	a, b := assemble(t, store, p, p), assemble(t, openStore(t), p, p)
	if a.Digest != b.Digest || a.ID() != b.ID() {
		t.Error("the same config and layers make different images")
	}
	if got := assemble(t, store); len(got.Manifest.Layers) != 0 || !bytes.Contains(got.RawManifest, []byte(`"layers":[]`)) ||
		!bytes.Contains(got.RawConfig, []byte(`"diff_ids":[]`)) {
		t.Errorf("an image without layers: %s %s", got.RawManifest, got.RawConfig)
	}
	if _, err := Assemble(store, testConfig(1), []Packed{p, p}); err == nil {
		t.Error("a history that tells of other layers was accepted")
	}
}

func TestUncompressedLayersAreWrittenFromTheLayer(t *testing.T) {
	store := openStore(t)
	l := builtLayer(t, store, testkit.RandomLayer(1, 5, 100))
	p := pack(t, store, l, PackOptions{Compression: Uncompressed})
	if store.HasBlob(p.DiffID) {
		t.Error("an uncompressed layer was stored a second time")
	}
	img := assemble(t, store, p)
	if err := ValidateImage(t.Context(), img); err != nil {
		t.Error(err)
	}
	if err := store.RemoveLayer(l.ID); err != nil {
		t.Fatal(err)
	}
	_, err := layerBytes(t.Context(), img, 0)
	wantError[*NotFoundError](t, err)
}

// A layer that is lost and built again has the same id, for its content is the
// same, and another tar, for its files are younger.
func TestDiffIDOfALayerMadeAgain(t *testing.T) {
	store := openStore(t)
	entry := testkit.Entry{Name: "f", Mode: 0o644, Data: []byte("same")}
	first := builtLayer(t, store, testkit.Tar(entry))
	p := pack(t, store, first, PackOptions{Compression: Uncompressed})
	if err := store.RemoveLayer(first.ID); err != nil {
		t.Fatal(err)
	}
	younger := &tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4, ModTime: testkit.Epoch.Add(time.Hour)}
	second := builtLayer(t, store, testkit.Tar(testkit.Entry{Header: younger, Data: entry.Data}))
	if second.ID != first.ID {
		t.Fatalf("ids %s and %s", first.ID, second.ID)
	}
	again := pack(t, store, second, PackOptions{Compression: Uncompressed})
	if again.DiffID == p.DiffID {
		t.Error("the diffID of the lost layer was taken for that of the new one")
	}
	img := assemble(t, store, again)
	if err := ValidateImage(t.Context(), img); err != nil {
		t.Error(err)
	}
	// A layer that was touched is found out and dropped.
	if err := os.Chtimes(filepath.Join(second.Dir, "f"), time.Time{}, testkit.Epoch); err != nil {
		t.Fatal(err)
	}
	_, err := layerBytes(t.Context(), img, 0)
	wantError[*CorruptError](t, err)
	if _, err := store.Layer(second.ID); err == nil {
		t.Error("the damaged layer is still offered")
	}
}

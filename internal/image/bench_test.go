package image

import (
	"testing"

	"stagecraft/internal/testkit"
)

// benchLayer is a tar of 16 MB in 400 files.
func benchLayer() []byte { return testkit.RandomLayer(1, 400, 80_000) }

func BenchmarkEnsureLayer(b *testing.B) {
	tar := benchLayer()
	dir := b.TempDir()
	testkit.AddToLayout(b, dir, "1", testkit.Image(b, testkit.ImageOptions{Tars: [][]byte{tar}}))
	img := resolve(b, Layout{Path: dir}, "x")
	store := openStore(b)
	b.SetBytes(int64(len(tar)))
	for b.Loop() {
		if _, err := EnsureLayer(b.Context(), store, img, 0); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := store.RemoveLayer(img.LayerIDs[0]); err != nil {
			b.Fatal(err)
		}
		if err := store.RemoveBlob(img.Manifest.Layers[0].Digest); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkPack(b *testing.B) {
	tar := benchLayer()
	store := openStore(b)
	l := builtLayer(b, store, tar)
	b.SetBytes(int64(len(tar)))
	for b.Loop() {
		p := pack(b, store, l, PackOptions{})
		b.StopTimer()
		if err := store.RemoveBlob(p.Descriptor.Digest); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

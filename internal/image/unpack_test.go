package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
	"stagecraft/internal/tree"
)

// nothingCommitted fails when the store has layers or unfinished work.
func nothingCommitted(t *testing.T, store *cache.Store) {
	t.Helper()
	for _, pattern := range []string{"layers/*", "tmp/*/*", "blobs/sha256/*"} {
		left, err := filepath.Glob(filepath.Join(store.Dir(), pattern))
		if err != nil || len(left) > 0 {
			t.Errorf("the store has %v (%v)", left, err)
		}
	}
}

func TestEnsureLayers(t *testing.T) {
	for name, o := range map[string]testkit.ImageOptions{
		"gzip":   {Seed: 1, Layers: 3},
		"zstd":   {Seed: 2, Zstd: true},
		"docker": {Seed: 3, Docker: true},
		"large":  {Seed: 4, Layers: 1, Files: 40, FileSize: 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t)
			reg, name, pushedImage := pushed(t, o)
			img := resolve(t, client(nil), name)
			layers, err := EnsureLayers(t.Context(), store, img)
			if err != nil {
				t.Fatal(err)
			}
			reg.Requests()
			for n, l := range layers {
				if l.ID != img.Config.RootFS.DiffIDs[n] {
					t.Errorf("layer %d has id %s", n, l.ID)
				}
				scanned, err := tree.Scan(t.Context(), l.Dir)
				if err != nil {
					t.Fatal(err)
				}
				if scanned.Digest() != l.Manifest || scanned.Files() != l.Files || scanned.Bytes() != l.Bytes {
					t.Errorf("layer %d on disk is not what the store says", n)
				}
				if b, err := store.ReadBlob(img.Manifest.Layers[n].Digest); err != nil || len(b) == 0 {
					t.Errorf("layer %d: its compressed bytes are not kept: %v", n, err)
				}
			}
			if _, err := EnsureLayers(t.Context(), store, img); err != nil {
				t.Fatal(err)
			}
			if got := reg.Requests(); got.Total() != 0 {
				t.Errorf("the second time took %+v", got)
			}
			if _, err := pushedImage.Layers(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestEnsureLayerOnce(t *testing.T) {
	store := openStore(t)
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 1, Files: 50})
	img := resolve(t, client(nil), name)
	reg.Requests()
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			_, err := EnsureLayer(t.Context(), store, img, 0)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := reg.Requests(); got.Blobs != 1 {
		t.Errorf("the layer was fetched %d times", got.Blobs)
	}
}

func TestEnsureLayerRefusesDamage(t *testing.T) {
	for name, fault := range map[string]testkit.Fault{
		"changed":  {Flip: true},
		"short":    {Short: 900},
		"cut":      {Cut: 900},
		"no bytes": {Short: 1},
	} {
		for kind, o := range map[string]testkit.ImageOptions{
			"gzip": {Seed: 1, Layers: 1, Files: 30}, "zstd": {Seed: 1, Layers: 1, Files: 30, Zstd: true},
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				store := openStore(t)
				reg, name, _ := pushed(t, o)
				img := resolve(t, client(nil), name)
				fault := fault
				fault.Path = img.Manifest.Layers[0].Digest.Encoded()
				reg.Fail(fault)
				_, err := EnsureLayer(t.Context(), store, img, 0)
				wantError[*CorruptError](t, err)
				nothingCommitted(t, store)
				reg.Heal()
				if _, err := EnsureLayer(t.Context(), store, img, 0); err != nil {
					t.Errorf("after the registry was repaired: %v", err)
				}
			})
		}
	}
}

func TestEnsureLayerRefusesWrongDiffID(t *testing.T) {
	store := openStore(t)
	_, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 1})
	img := resolve(t, client(nil), name)
	wrong := oci.FromBytes([]byte("another tar"))
	img.Config.RootFS.DiffIDs[0] = wrong
	img.LayerIDs = []oci.Digest{wrong}
	_, err := EnsureLayer(t.Context(), store, img, 0)
	wantError[*CorruptError](t, err)
	nothingCommitted(t, store)
	_, err = PackBase(t.Context(), store, img, 0, PackOptions{})
	wantError[*CorruptError](t, err)
	nothingCommitted(t, store)
}

func TestEnsureLayerRefusesWhatIsNoArchive(t *testing.T) {
	store := openStore(t)
	_, name, _ := pushed(t, testkit.ImageOptions{Tars: [][]byte{testkit.RandomLayer(1, 8, 4096)[:2000]}})
	_, err := EnsureLayer(t.Context(), store, resolve(t, client(nil), name), 0)
	if err == nil {
		t.Fatal("a tar without its end was unpacked")
	}
	nothingCommitted(t, store)
}

func TestEnsureLayerRefusesHostileTars(t *testing.T) {
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	marker := "stagecraft-" + hex.EncodeToString(b)
	for name, tar := range testkit.HostileTars(marker) {
		t.Run(name, func(t *testing.T) {
			store := openStore(t)
			reg := testkit.NewRegistry(t)
			name := reg.Push(t, "evil:1", testkit.Image(t, testkit.ImageOptions{Tars: [][]byte{tar}}))
			_, err := EnsureLayer(t.Context(), store, resolve(t, client(nil), name), 0)
			var hostile *tree.HostileError
			if !errors.As(err, &hostile) {
				t.Errorf("error %v, want a *tree.HostileError", err)
			}
			if _, err := os.Lstat("/tmp/" + marker); !errors.Is(err, fs.ErrNotExist) {
				os.Remove("/tmp/" + marker)
				t.Errorf("it escaped (%v)", err)
			}
			nothingCommitted(t, store)
		})
	}
}

func TestEnsureLayerIsCancelled(t *testing.T) {
	store := openStore(t)
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 1})
	img := resolve(t, client(nil), name)
	reg.Fail(testkit.Fault{Path: "/blobs/", Stall: 500})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user went away")
	go cancel(why)
	if _, err := EnsureLayer(ctx, store, img, 0); !errors.Is(err, why) {
		t.Errorf("error %v, want the cause", err)
	}
	nothingCommitted(t, store)
}

func TestEnsureLayerRepairsItsBlob(t *testing.T) {
	store := openStore(t)
	_, name, _ := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 1})
	img := resolve(t, client(nil), name)
	if _, err := EnsureLayer(t.Context(), store, img, 0); err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveLayer(img.LayerIDs[0]); err != nil {
		t.Fatal(err)
	}
	flipBlob(t, store, img.Manifest.Layers[0].Digest)
	if _, err := EnsureLayer(t.Context(), store, img, 0); err != nil {
		t.Fatalf("with a damaged blob in the store: %v", err)
	}
	b, err := store.ReadBlob(img.Manifest.Layers[0].Digest)
	if err != nil || oci.FromBytes(b) != img.Manifest.Layers[0].Digest {
		t.Errorf("the blob is still damaged (%v)", err)
	}
}

// flipBlob damages a blob of the store without changing its size.
func flipBlob(t *testing.T, store *cache.Store, d oci.Digest) {
	t.Helper()
	path := filepath.Join(store.Dir(), "blobs", "sha256", d.Encoded())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecompress(f *testing.F) {
	tar := testkit.RandomLayer(1, 2, 100)
	for _, o := range []testkit.ImageOptions{{Tars: [][]byte{tar}}, {Tars: [][]byte{tar}, Zstd: true}} {
		layers, err := testkit.Image(f, o).Layers()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compressedBytes(f, layers[0]))
	}
	f.Add(tar)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decompress(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer d.close()
		if err := validateTar(&limited{d, 1 << 20}); err == nil && len(b) == 0 {
			t.Error("nothing is no tar")
		}
	})
}

func compressedBytes(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// limited ends with an error after n bytes.
type limited struct {
	r interface{ Read([]byte) (int, error) }
	n int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.n <= 0 {
		return 0, errors.New("too much")
	}
	n, err := l.r.Read(p[:min(len(p), l.n)])
	l.n -= n
	return n, err
}

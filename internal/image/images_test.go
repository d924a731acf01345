package image

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

// keep stores an image of one random layer.
func keep(t testing.TB, s *Images, store *cache.Store, seed uint64, tags ...string) *Stored {
	t.Helper()
	l := builtLayer(t, store, testkit.RandomLayer(seed, 3, 100))
	var refs []oci.Reference
	for _, tag := range tags {
		refs = append(refs, parseRef(t, tag))
	}
	rec, err := s.Keep(t.Context(), testConfig(1), []*cache.Layer{l}, refs)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// listing is what List returns, as name -> ID.
func listing(t testing.TB, s *Images) map[string]oci.Digest {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]oci.Digest{}
	for _, rec := range all {
		if len(rec.Tags) == 0 {
			names["<none> "+rec.ID.String()] = rec.ID
		}
		for _, tag := range rec.Tags {
			names[tag.Familiar()] = rec.ID
		}
	}
	return names
}

func TestImagesKeepAndTag(t *testing.T) {
	store := openStore(t)
	s := NewImages(store)
	a := keep(t, s, store, 1, "app", "app:1")
	if len(a.Tags) != 2 || a.Size == 0 || a.Platform.OS != "linux" {
		t.Errorf("kept %+v", a)
	}
	b := keep(t, s, store, 2)
	want := map[string]oci.Digest{"app:latest": a.ID, "app:1": a.ID, "<none> " + b.ID.String(): b.ID}
	if diff := cmp.Diff(want, listing(t, s)); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	// A tag moves; the image that loses its last one is forgotten.
	if err := s.Tag(t.Context(), b.ID, parseRef(t, "app")); err != nil {
		t.Fatal(err)
	}
	c := keep(t, s, store, 3, "app:1")
	want = map[string]oci.Digest{"app:latest": b.ID, "app:1": c.ID}
	if diff := cmp.Diff(want, listing(t, s)); diff != "" {
		t.Errorf("after moving tags (-want +got):\n%s", diff)
	}
	if err := s.Tag(t.Context(), a.ID, parseRef(t, "gone")); err == nil {
		t.Error("an image that is forgotten was tagged")
	}
	if err := s.Tag(t.Context(), b.ID, parseRef(t, "x@"+b.ID.String())); err == nil {
		t.Error("a digest was accepted as a tag")
	}
	again := keep(t, s, store, 2)
	if again.ID != b.ID || !again.Created.Equal(b.Created) || len(again.Tags) != 1 {
		t.Errorf("the same image again: %+v, was %+v", again, b)
	}
}

func TestImagesFind(t *testing.T) {
	store := openStore(t)
	s := NewImages(store)
	a := keep(t, s, store, 1, "registry.example.com/team/app:2")
	for _, name := range []string{"registry.example.com/team/app:2", a.ID.String(), a.ID.Encoded(), a.ID.Encoded()[:12]} {
		if rec, err := s.Find(name); err != nil || rec.ID != a.ID || len(rec.Tags) != 1 {
			t.Errorf("find %s: %+v %v", name, rec, err)
		}
	}
	for _, name := range []string{"app:2", "nothing", "sha256:", "0", "/", "UPPER"} {
		if _, err := s.Find(name); !isNotFound(err) {
			t.Errorf("find %q: %v", name, err)
		}
	}
	// Digits that begin several IDs name none.
	l := builtLayer(t, store, testkit.RandomLayer(1, 3, 100))
	byPrefix := map[string]int{a.ID.Encoded()[:2]: 1}
	for n, shared := 0, false; !shared; n++ {
		config := testConfig(1)
		config.Author = strconv.Itoa(n)
		rec, err := s.Keep(t.Context(), config, []*cache.Layer{l}, nil)
		if err != nil {
			t.Fatal(err)
		}
		byPrefix[rec.ID.Encoded()[:2]]++
		shared = byPrefix[rec.ID.Encoded()[:2]] > 1
	}
	for prefix, n := range byPrefix {
		if _, err := s.Find(prefix); (err == nil) != (n == 1) {
			t.Errorf("find %q, which %d images have: %v", prefix, n, err)
		}
	}
}

func TestImagesRemove(t *testing.T) {
	store := openStore(t)
	s := NewImages(store)
	a := keep(t, s, store, 1, "app:1", "app:2")
	untagged, removed, err := s.Remove(t.Context(), "app:1")
	if err != nil || len(untagged) != 1 || untagged[0].Familiar() != "app:1" || removed != "" {
		t.Errorf("remove one name: %v %s %v", untagged, removed, err)
	}
	untagged, removed, err = s.Remove(t.Context(), "app:2")
	if err != nil || len(untagged) != 1 || removed != a.ID {
		t.Errorf("remove the last name: %v %s %v", untagged, removed, err)
	}
	b := keep(t, s, store, 2, "b:1", "b:2")
	untagged, removed, err = s.Remove(t.Context(), b.ID.Encoded()[:12])
	if err != nil || len(untagged) != 2 || removed != b.ID {
		t.Errorf("remove by ID: %v %s %v", untagged, removed, err)
	}
	if got := listing(t, s); len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
	if _, _, err := s.Remove(t.Context(), "b:1"); !isNotFound(err) {
		t.Errorf("remove what is gone: %v", err)
	}
}

func TestImagesListsOnlyWholeImages(t *testing.T) {
	for name, damage := range map[string]func(*cache.Store, *Stored) error{
		"config":   func(s *cache.Store, r *Stored) error { return s.RemoveBlob(r.ID) },
		"manifest": func(s *cache.Store, r *Stored) error { return s.RemoveBlob(r.Manifest) },
		"layer":    func(s *cache.Store, r *Stored) error { return s.RemoveLayer(r.Layers[0]) },
		"record": func(s *cache.Store, r *Stored) error {
			refs, err := filepath.Glob(filepath.Join(s.Dir(), "refs", "*"))
			for _, ref := range refs {
				err = os.WriteFile(ref, []byte("cut"), 0o600)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t)
			s := NewImages(store)
			rec := keep(t, s, store, 1, "app")
			if err := damage(store, rec); err != nil {
				t.Fatal(err)
			}
			if got := listing(t, s); len(got) != 0 {
				t.Errorf("listed: %v", got)
			}
			_, err := s.Resolve(t.Context(), parseRef(t, "app"), amd64)
			wantError[*NotFoundError](t, err)
			keep(t, s, store, 1, "app")
			resolve(t, s, "app")
		})
	}
}

func TestImagesResolve(t *testing.T) {
	store := openStore(t)
	s := NewImages(store)
	rec := keep(t, s, store, 1, "app:1")
	img := resolve(t, s, "app:1")
	if img.ID() != rec.ID || !slices.Equal(img.LayerIDs, rec.Layers) || img.Digest != rec.Manifest {
		t.Errorf("resolved %s %v", img.ID(), img.LayerIDs)
	}
	if err := ValidateImage(t.Context(), img); err != nil {
		t.Error(err)
	}
	if layers, err := EnsureLayers(t.Context(), store, img); err != nil || layers[0].ID != rec.Layers[0] {
		t.Errorf("its layers: %v %v", layers, err)
	}
	resolve(t, s, "app@"+rec.Manifest.String())
	_, err := s.Resolve(t.Context(), parseRef(t, "other@"+rec.Manifest.String()), amd64)
	wantError[*NotFoundError](t, err)
	_, err = s.Resolve(t.Context(), parseRef(t, "app:1"), oci.Platform{OS: "linux", Architecture: "arm64"})
	wantError[*NotFoundError](t, err)
	if opened, err := s.Open(rec); err != nil || opened.Digest != img.Digest {
		t.Errorf("open: %v %v", opened, err)
	}
}

func TestResolverOrder(t *testing.T) {
	store := openStore(t)
	reg, name, pushedImage := pushed(t, testkit.ImageOptions{Seed: 1})
	src := &Resolver{Store: store, Registry: client(nil)}
	img := resolve(t, src, name)
	reg.Requests()
	again := resolve(t, &Resolver{Store: store, Registry: client(nil)}, name)
	if got := reg.Requests(); got.Total() != 0 {
		t.Errorf("the second time took %+v", got)
	}
	if again.Digest != img.Digest || again.Ref != img.Ref {
		t.Errorf("remembered %s %s", again.Ref, again.Digest)
	}
	if _, err := layerBytes(t.Context(), again, 0); err != nil {
		t.Errorf("a layer of a remembered image: %v", err)
	}

	newer := testkit.Image(t, testkit.ImageOptions{Seed: 2})
	reg.Push(t, "team/app:1", newer)
	if got := resolve(t, src, name); got.Digest != digestOf(t, pushedImage) {
		t.Errorf("without Pull: got %s", got.Digest)
	}
	pull := &Resolver{Store: store, Registry: client(nil), Pull: true}
	if got := resolve(t, pull, name); got.Digest != digestOf(t, newer) {
		t.Errorf("with Pull: got %s", got.Digest)
	}
	if got := resolve(t, src, name); got.Digest != digestOf(t, newer) {
		t.Errorf("after Pull: got %s", got.Digest)
	}

	local := keep(t, NewImages(store), store, 9, name)
	if got := resolve(t, src, name); got.ID() != local.ID {
		t.Errorf("an image of that name in the store: got %s", got.ID())
	}
}

func TestResolverAsksAgainForWhatTheStoreLost(t *testing.T) {
	store := openStore(t)
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
	src := &Resolver{Store: store, Registry: client(nil)}
	img := resolve(t, src, name)
	for _, d := range []oci.Digest{img.Digest, img.ID()} {
		flipBlob(t, store, d)
		reg.Requests()
		if got := resolve(t, src, name); got.Digest != img.Digest {
			t.Errorf("got %s", got.Digest)
		}
		if got := reg.Requests(); got.Manifests != 1 {
			t.Errorf("%+v, want the manifest asked for again", got)
		}
	}
}

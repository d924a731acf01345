package image

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

var amd64 = oci.Platform{OS: "linux", Architecture: "amd64"}

func openStore(t testing.TB) *cache.Store {
	t.Helper()
	s, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is a registry client that does not wait long.
func client(c *Config) *Registry {
	return NewRegistry(RegistryOptions{Config: c, Backoff: time.Millisecond, Stall: 300 * time.Millisecond})
}

func parseRef(t testing.TB, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func resolve(t testing.TB, src Source, name string) *Image {
	t.Helper()
	img, err := src.Resolve(t.Context(), parseRef(t, name), amd64)
	if err != nil {
		t.Fatalf("resolve %s: %v", name, err)
	}
	return img
}

func digestOf(t testing.TB, img v1.Image) oci.Digest {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return oci.Digest(d.String())
}

// layerBytes reads a layer blob whole.
func layerBytes(ctx context.Context, img *Image, n int) ([]byte, error) {
	r, err := img.OpenLayer(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// wantError fails unless err is a T and returns it.
func wantError[T error](t testing.TB, err error) T {
	t.Helper()
	var want T
	if !errors.As(err, &want) {
		t.Fatalf("got error %T %v, want a %T", err, err, want)
	}
	if h, ok := any(want).(interface{ Hint() string }); !ok || h.Hint() == "" {
		t.Errorf("%T does not say what to try", want)
	}
	return want
}

// pushed is a registry with one image, app:1.
func pushed(t testing.TB, o testkit.ImageOptions) (*testkit.Registry, string, v1.Image) {
	t.Helper()
	reg := testkit.NewRegistry(t)
	img := testkit.Image(t, o)
	return reg, reg.Push(t, "team/app:1", img), img
}

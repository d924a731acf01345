package testkit

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// refName is the annotation that names an entry of index.json.
const refName = "org.opencontainers.image.ref.name"

// AddToLayout puts an image into an OCI layout under a bare tag, making the
// directory where it is missing.
func AddToLayout(t testing.TB, dir, tag string, img v1.Image) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	err = openLayout(t, dir).AppendImage(img,
		layout.WithAnnotations(map[string]string{refName: tag}), layout.WithPlatform(*config.Platform()))
	if err != nil {
		t.Fatalf("add %s to layout %s: %v", tag, dir, err)
	}
}

// AddIndexToLayout puts an index and its images into an OCI layout.
func AddIndexToLayout(t testing.TB, dir, tag string, index v1.ImageIndex) {
	t.Helper()
	err := openLayout(t, dir).AppendIndex(index, layout.WithAnnotations(map[string]string{refName: tag}))
	if err != nil {
		t.Fatalf("add %s to layout %s: %v", tag, dir, err)
	}
}

func openLayout(t testing.TB, dir string) layout.Path {
	t.Helper()
	if p, err := layout.FromPath(dir); err == nil {
		return p
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatalf("make layout %s: %v", dir, err)
	}
	return p
}

// LayoutImage reads the image with that tag from an OCI layout, or its only one
// when tag is "".
func LayoutImage(t testing.TB, dir, tag string) v1.Image {
	t.Helper()
	img, err := layoutImage(dir, tag)
	if err != nil {
		t.Fatalf("layout %s:%s: %v", dir, tag, err)
	}
	return img
}

func layoutImage(dir, tag string) (v1.Image, error) {
	p, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if tag == "" && len(m.Manifests) == 1 || tag != "" && d.Annotations[refName] == tag {
			return p.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("no such image among %d", len(m.Manifests))
}

// PushLayout copies an image of an OCI layout to a registry on loopback, under a
// full name such as "127.0.0.1:5000/app:1".
func PushLayout(t testing.TB, dir, tag, dest string) {
	t.Helper()
	ref, err := name.ParseReference(dest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, LayoutImage(t, dir, tag), remote.WithTransport(asPusher{})); err != nil {
		t.Fatalf("push layout %s:%s to %s: %v", dir, tag, dest, err)
	}
}

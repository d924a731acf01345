package testkit

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ImageOptions describes an image. The zero value is a random OCI image for
// linux/amd64 with two gzip layers of eight small files; the same options make
// the same bytes.
type ImageOptions struct {
	Seed         uint64
	Layers       int      // random layers; 0: 2, unless Tars are given
	Files        int      // of a random layer; 0: 8
	FileSize     int      // bytes of a file, at most; 0: 4096
	Tars         [][]byte // layers as tars, lowest first, instead of random ones
	Architecture string   // "": amd64
	Docker       bool     // Docker schema 2 media types instead of OCI
	Zstd         bool
	Config       v1.Config
}

// Epoch is the time of everything that testkit makes.
var Epoch = time.Unix(1_700_000_000, 0).UTC()

// Image makes an image.
func Image(t testing.TB, o ImageOptions) v1.Image {
	t.Helper()
	tars := o.Tars
	if tars == nil {
		for n := range orInt(o.Layers, 2) {
			tars = append(tars, RandomLayer(o.Seed<<8+uint64(n), orInt(o.Files, 8), orInt(o.FileSize, 4096)))
		}
	}
	var img v1.Image = empty.Image
	if o.Docker {
		img = mutate.MediaType(mutate.ConfigMediaType(img, types.DockerConfigJSON), types.DockerManifestSchema2)
	} else {
		img = mutate.MediaType(mutate.ConfigMediaType(img, types.OCIConfigJSON), types.OCIManifestSchema1)
	}
	architecture := o.Architecture
	if architecture == "" {
		architecture = "amd64"
	}
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: architecture, OS: "linux", Created: v1.Time{Time: Epoch}, Config: o.Config,
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, tar := range tars {
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:     layer(t, o, tar),
			History:   v1.History{Created: v1.Time{Time: Epoch}, CreatedBy: fmt.Sprintf("layer %d", n)},
			MediaType: o.layerType(),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func (o ImageOptions) layerType() types.MediaType {
	switch {
	case o.Zstd:
		return types.OCILayerZStd
	case o.Docker:
		return types.DockerLayer
	}
	return types.OCILayer
}

func layer(t testing.TB, o ImageOptions, tar []byte) v1.Layer {
	t.Helper()
	options := []tarball.LayerOption{tarball.WithMediaType(o.layerType())}
	if o.Zstd {
		options = append(options, tarball.WithCompression(compression.ZStd))
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(tar)), nil
	}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Index makes an index of images, each listed under its own platform.
func Index(t testing.TB, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index
}

// RandomLayer makes a layer tar: directories, files of up to size bytes that
// compress to about half, a symlink and a hard link. The same arguments make the
// same bytes.
func RandomLayer(seed uint64, files, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	entries := []Entry{{Name: "etc/", Mode: 0o755}, {Name: "usr/", Mode: 0o755}, {Name: "usr/bin/", Mode: 0o755}}
	for n := range files {
		b := make([]byte, 1+rng.IntN(size))
		for i := range b {
			b[i] = "0123456789abcdef"[rng.IntN(16)]
		}
		dir := []string{"etc/", "usr/bin/", ""}[n%3]
		entries = append(entries, Entry{Name: fmt.Sprintf("%sfile-%x-%d", dir, seed, n), Mode: 0o644, Data: b})
	}
	entries = append(entries, Entry{Name: fmt.Sprintf("link-%x", seed), Link: "etc"})
	if files > 0 {
		entries = append(entries, Entry{Name: fmt.Sprintf("hard-%x", seed), HardLink: entries[3].Name})
	}
	return Tar(entries...)
}

func orInt(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

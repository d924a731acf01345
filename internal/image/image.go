package image

import (
	"context"
	"fmt"
	"io"

	"stagecraft/internal/oci"
)

// Bounds of what is read into memory, in bytes.
const (
	maxManifest = 4 << 20 // as registries bound it
	maxConfig   = 8 << 20
	maxLayers   = 4096
)

// Source is where images come from. Resolve returns the image of that name for
// that platform; its errors are *[NotFoundError], *[DeniedError],
// *[UnreachableError], *[CorruptError] and *[InvalidError]. No layer is read.
type Source interface {
	Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*Image, error)
}

// Image is an image for one platform: manifest and config in memory, layers on
// demand.
type Image struct {
	Ref         string     // full name, as resolved; "" for an assembled image without a name
	Digest      oci.Digest // of RawManifest
	RawManifest []byte     // as stored, Docker schema 2 or OCI
	RawConfig   []byte     // as stored
	Manifest    oci.Manifest
	Config      oci.Image

	// LayerIDs are the layers' ids in the store, lowest first: the diffID for
	// layers that came from outside, another id for those built here.
	LayerIDs []oci.Digest

	blobs blobOpener
}

// blobOpener is where an image's layers are. What it opens is not verified yet.
type blobOpener interface {
	openBlob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error)
}

// ID is the image ID as docker shows it: the digest of the config.
func (i *Image) ID() oci.Digest { return i.Manifest.Config.Digest }

// OpenLayer opens layer n, 0 being the lowest, as the bytes that the manifest
// names. Digest and size are verified while it is read: the read that would
// return io.EOF returns a *[CorruptError] instead when they do not hold.
func (i *Image) OpenLayer(ctx context.Context, n int) (io.ReadCloser, error) {
	if n < 0 || n >= len(i.Manifest.Layers) {
		return nil, fmt.Errorf("image %s: layer %d of %d", i.Ref, n, len(i.Manifest.Layers))
	}
	d := i.Manifest.Layers[n]
	r, err := i.blobs.openBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	v := verify(r, d, i.layerName(n))
	if s, ok := i.blobs.(*storeBlobs); ok {
		v.wrong = s.damaged
	}
	return v, nil
}

func (i *Image) layerName(n int) string {
	name := "layer " + i.Manifest.Layers[n].Digest.String()
	if i.Ref != "" {
		name += " of " + i.Ref
	}
	return name
}

// newImage makes an image of a manifest whose digest has been verified and
// checks that manifest and config fit each other.
func newImage(ref string, rawManifest []byte, rawConfig []byte, blobs blobOpener) (*Image, error) {
	m, err := parseManifest(ref, rawManifest)
	if err != nil {
		return nil, err
	}
	img := &Image{
		Ref:         ref,
		Digest:      oci.FromBytes(rawManifest),
		RawManifest: rawManifest,
		RawConfig:   rawConfig,
		Manifest:    *m,
		blobs:       blobs,
	}
	if got := oci.FromBytes(rawConfig); got != m.Config.Digest {
		return nil, &CorruptError{"config " + m.Config.Digest.String() + " of " + ref, "its bytes have digest " + got.String()}
	}
	config, err := parseConfig(ref, rawConfig)
	if err != nil {
		return nil, err
	}
	img.Config = *config
	if a, b := len(m.Layers), len(config.RootFS.DiffIDs); a != b {
		return nil, &InvalidError{"image " + ref, fmt.Sprintf("the manifest has %d layers, the config %d", a, b)}
	}
	img.LayerIDs = config.RootFS.DiffIDs
	return img, nil
}

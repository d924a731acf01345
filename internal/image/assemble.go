package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
)

// Assemble makes an image of a config and layers, lowest first, and stores its
// config and its manifest as blobs. The root file system part of the config is
// filled in from the layers; the rest is taken as it is. The same config and
// layers give the same bytes.
//
// The history, if there is one, must have an entry for each layer and mark all
// others as empty.
func Assemble(store *cache.Store, config oci.Image, layers []Packed) (*Image, error) {
	config.RootFS = oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{}}
	manifest := oci.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Layers:    []oci.Descriptor{},
	}
	img := &Image{LayerIDs: []oci.Digest{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		manifest.Layers = append(manifest.Layers, l.Descriptor)
		img.LayerIDs = append(img.LayerIDs, l.Layer)
	}
	if n := filledHistory(config.History); len(config.History) > 0 && n != len(layers) {
		return nil, fmt.Errorf("assemble image: the history tells of %d layers, there are %d", n, len(layers))
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("assemble image: config: %w", err)
	}
	manifest.Config = oci.Descriptor{MediaType: v1.MediaTypeImageConfig, Size: int64(len(raw))}
	if manifest.Config.Digest, err = store.PutBlob(raw); err != nil {
		return nil, err
	}
	img.Config, img.RawConfig = config, raw
	if raw, err = json.Marshal(manifest); err != nil {
		return nil, fmt.Errorf("assemble image: manifest: %w", err)
	}
	if img.Digest, err = store.PutBlob(raw); err != nil {
		return nil, err
	}
	img.Manifest, img.RawManifest = manifest, raw
	img.blobs = newStoreBlobs(store, img)
	return img, nil
}

// filledHistory counts the entries that made a layer.
func filledHistory(history []oci.History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

// storeBlobs opens the layers of an image that is in the store: blobs, and tars
// written from layers that were never packed.
type storeBlobs struct {
	store  *cache.Store
	ref    string
	layers map[oci.Digest]oci.Digest // diffID -> id in the store
}

func newStoreBlobs(store *cache.Store, img *Image) *storeBlobs {
	b := &storeBlobs{store: store, ref: img.Ref, layers: map[oci.Digest]oci.Digest{}}
	for n, id := range img.LayerIDs {
		b.layers[img.Config.RootFS.DiffIDs[n]] = id
	}
	return b
}

func (b *storeBlobs) openBlob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	f, err := b.store.OpenBlob(d.Digest)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, cache.ErrNotFound) {
		return nil, err
	}
	var layer *cache.Layer
	if id, ok := b.layers[d.Digest]; ok {
		layer, err = b.store.Layer(id)
	}
	if errors.Is(err, cache.ErrNotFound) {
		return nil, &NotFoundError{Ref: b.ref, Reason: "its layer " + d.Digest.String() + " is no longer in the store",
			Try: "build or pull the image again"}
	}
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeLayerTar(ctx, b.store, layer, w)) }()
	return r, nil
}

// damaged drops the blob, or the layer that stood for it, whose bytes were found
// to be wrong, so that it is made or fetched again.
func (b *storeBlobs) damaged(d oci.Digest) error {
	if id, ok := b.layers[d]; ok && !b.store.HasBlob(d) {
		return b.store.RemoveLayer(id)
	}
	return b.store.RemoveBlob(d)
}

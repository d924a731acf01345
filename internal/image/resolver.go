package image

import (
	"context"
	"errors"

	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
)

// Resolver is the source that builds use: the local store, then what was
// resolved before, then the registry. A rebuild of the same Dockerfile asks no
// registry.
type Resolver struct {
	Store    *cache.Store
	Registry *Registry
	Pull     bool // ask the registry, even for images that are here; not for a digest, which never moves
}

var _ Source = (*Resolver)(nil)

// factResolved is keyed by full name and platform: the digest of the manifest.
const factResolved = "resolved"

// Resolve returns the image of that name. What the registry said is remembered:
// manifest and config as blobs, the name as a fact.
func (r *Resolver) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*Image, error) {
	if !r.Pull || ref.Digest() != "" {
		img, err := NewImages(r.Store).Resolve(ctx, ref, p)
		if err == nil || !isNotFound(err) {
			return img, err
		}
		if img, err := r.remembered(ref, p); err != nil || img != nil {
			return img, err
		}
	}
	img, err := r.Registry.Resolve(ctx, ref, p)
	if err != nil {
		return nil, err
	}
	manifest, err := r.Store.PutBlob(img.RawManifest)
	if err != nil {
		return nil, err
	}
	if _, err := r.Store.PutBlob(img.RawConfig); err != nil {
		return nil, err
	}
	return img, r.Store.PutFact(factResolved, resolvedKey(ref, p), manifest)
}

// remembered returns nil when there is nothing to remember.
func (r *Resolver) remembered(ref oci.Reference, p oci.Platform) (*Image, error) {
	var manifest oci.Digest
	ok, err := r.Store.Fact(factResolved, resolvedKey(ref, p), &manifest)
	if err != nil || !ok {
		return nil, err
	}
	img, err := storedImage(r.Store, ref.String(), manifest, &registryBlobs{r: r.Registry, ref: ref})
	if errors.Is(err, cache.ErrNotFound) {
		return nil, nil
	}
	return img, err
}

func resolvedKey(ref oci.Reference, p oci.Platform) string {
	return ref.String() + " " + oci.FormatPlatform(p)
}

package build

import (
	"context"
	"slices"
	"strings"
	"sync"

	"stagecraft/internal/cache"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
	"stagecraft/internal/snapshot"
)

// images resolves the base images of one build and pulls their layers when
// somebody wants the bytes.
type images struct {
	source image.Source

	mu       sync.Mutex
	byDigest map[oci.Digest]*image.Image // by manifest
	byLayer  map[oci.Digest]layerOf      // by the layer's id in the store
}

// layerOf is a place that a layer can be had from.
type layerOf struct {
	img *image.Image
	n   int
}

func (b *Builder) newImages(req Request) *images {
	registry := image.NewRegistry(image.RegistryOptions{Config: b.Config})
	return &images{
		source:   &image.Resolver{Store: b.Store, Registry: registry, Pull: req.Pull},
		byDigest: map[oci.Digest]*image.Image{},
		byLayer:  map[oci.Digest]layerOf{},
	}
}

// ResolveImage implements [plan.Resolver].
func (im *images) ResolveImage(ctx context.Context, name string, p oci.Platform) (plan.Base, error) {
	img, err := im.resolve(ctx, name, p)
	if err != nil {
		return plan.Base{}, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.byDigest[img.Digest] = img
	for n, id := range img.LayerIDs {
		im.byLayer[id] = layerOf{img, n}
	}
	return plan.Base{Ref: img.Ref, Digest: img.Digest, Config: img.Config}, nil
}

func (im *images) resolve(ctx context.Context, name string, p oci.Platform) (*image.Image, error) {
	if of, spec, ok := strings.Cut(name, "=oci-layout://"); ok {
		layout, err := image.ParseLayout(spec)
		if err != nil {
			return nil, err
		}
		// A layout of several images without a tag: the one that has the
		// context's own name is meant.
		ref, err := oci.ParseReference(of)
		if err != nil {
			ref = oci.Reference{}
		}
		return layout.Resolve(ctx, ref, p)
	}
	ref, err := oci.ParseReference(name)
	if err != nil {
		return nil, err
	}
	return im.source.Resolve(ctx, ref, p)
}

// stack is the root of an image: its layers by their ids in the store, so that
// an image built here is the same content as the stage it came from.
func (im *images) stack(manifest oci.Digest) *snapshot.Stack {
	im.mu.Lock()
	img := im.byDigest[manifest]
	im.mu.Unlock()
	var stack *snapshot.Stack
	for _, id := range img.LayerIDs {
		stack = stack.Push(id)
	}
	return stack
}

// from returns where a layer can be pulled from, if it can.
func (im *images) from(id oci.Digest) (layerOf, bool) {
	im.mu.Lock()
	defer im.mu.Unlock()
	l, ok := im.byLayer[id]
	return l, ok
}

// ensure pulls and unpacks what the store lacks of a root's base image, and
// returns that image, nil where nothing is lacking.
func (im *images) ensure(ctx context.Context, store *cache.Store, stack *snapshot.Stack, report *reporter) (*image.Image, error) {
	img := im.below(stack)
	if img == nil || im.present(store, img) {
		return nil, nil
	}
	unlock, err := store.Lock(ctx, "pull "+img.Digest.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if im.present(store, img) {
		return nil, nil
	}
	name := img.Ref
	if !strings.Contains(name, "@") {
		name += "@" + img.Digest.String()
	}
	done := report.task("pull and unpack " + name)
	_, err = image.EnsureLayers(ctx, store, img)
	done(err)
	return img, err
}

// below returns the image that a root lies over, nil where there is none. Images
// often share their lower layers: it is the one with the most layers of all that
// the root begins with.
func (im *images) below(stack *snapshot.Stack) *image.Image {
	ids := stack.Layers()
	im.mu.Lock()
	defer im.mu.Unlock()
	var best *image.Image
	for _, img := range im.byDigest {
		n := len(img.LayerIDs)
		if n <= len(ids) && slices.Equal(ids[:n], img.LayerIDs) && (best == nil || n > len(best.LayerIDs)) {
			best = img
		}
	}
	return best
}

// present reports whether all layers of an image are unpacked.
func (im *images) present(store *cache.Store, img *image.Image) bool {
	for _, id := range img.LayerIDs {
		if _, err := store.Layer(id); err != nil {
			return false
		}
	}
	return true
}

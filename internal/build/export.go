package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"stagecraft/internal/graph"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
	"stagecraft/internal/snapshot"
)

// exporter turns the root that a build made into what was asked for.
type exporter struct {
	*session
	target *value
	tags   []oci.Reference
}

// export writes every output; without any, the image is kept in the store.
func (e *exporter) export(ctx context.Context, outputs []Output) (*Result, error) {
	result := &Result{}
	for _, t := range e.tags {
		result.Names = append(result.Names, t.String())
	}
	if len(outputs) == 0 {
		return result, e.keep(ctx, result)
	}
	for _, o := range outputs {
		done := e.report.task(fmt.Sprintf("export %s to %s", o.Type, o.Dest))
		err := e.write(ctx, o, result)
		done(err)
		if err != nil {
			return nil, e.outputFailure(ctx, o, err)
		}
	}
	return result, nil
}

// keep puts the image into the local store, unpacked as it is.
func (e *exporter) keep(ctx context.Context, result *Result) error {
	layers, err := e.layers(ctx, e.target.stack)
	if err != nil {
		return AsFailure(err)
	}
	// Every diffID is wanted below; those not known yet are found side by side.
	group, groupCtx := errgroup.WithContext(ctx)
	for _, l := range layers {
		group.Go(func() error {
			_, _, err := image.DiffID(groupCtx, e.Store, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return AsFailure(err)
	}
	kept, err := image.NewImages(e.Store).Keep(ctx, e.config(), layers, e.tags)
	if err != nil {
		return AsFailure(err)
	}
	result.ImageID = kept.ID
	result.ManifestDigest = kept.Manifest
	return nil
}

// write makes one output.
func (e *exporter) write(ctx context.Context, o Output, result *Result) error {
	if o.Type != OutputOCI {
		return e.writeRoot(ctx, o)
	}
	img, err := e.pack(ctx)
	if err != nil {
		return err
	}
	result.ImageID, result.ManifestDigest = img.ID(), img.Digest
	result.Descriptor = oci.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.Digest, Size: int64(len(img.RawManifest))}
	if !o.Tar {
		return image.WriteLayout(ctx, img, e.tags, o.Dest)
	}
	return toFile(o.Dest, func(f *os.File) error { return image.WriteArchive(ctx, img, e.tags, f) })
}

// writeRoot writes the files of the root, in one way or the other.
func (e *exporter) writeRoot(ctx context.Context, o Output) error {
	layers, err := e.layers(ctx, e.target.stack)
	if err != nil {
		return err
	}
	root, err := e.treeLayers(layers)
	if err != nil {
		return err
	}
	if o.Type == OutputLocal {
		return image.WriteFiles(ctx, root, o.Dest)
	}
	return toFile(o.Dest, func(f *os.File) error { return image.WriteRootTar(ctx, root, f) })
}

// pack assembles the image with every layer as a compressed blob. Layers of the
// base that were never unpacked are fetched as they are.
func (e *exporter) pack(ctx context.Context) (*image.Image, error) {
	ids := e.target.stack.Layers()
	packed := make([]image.Packed, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2) // each compresses on all cores
	for i, id := range ids {
		group.Go(func() (err error) {
			packed[i], err = e.packLayer(groupCtx, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return image.Assemble(e.Store, e.config(), packed)
}

func (e *exporter) packLayer(ctx context.Context, id oci.Digest) (image.Packed, error) {
	if l, ok := e.images.from(id); ok {
		packed, err := image.PackBase(ctx, e.Store, l.img, l.n, image.PackOptions{})
		return packed, e.baseFailure(l.img, err)
	}
	l, err := e.Store.Layer(id)
	if err != nil {
		return image.Packed{}, fmt.Errorf("layer %s: %w", id, err)
	}
	return image.Pack(ctx, e.Store, l, image.PackOptions{})
}

// config is the image's config with its history. Times are those of the
// records, so a build from cache gives the same bytes again; what made no layer
// has the time of what came before.
func (e *exporter) config() oci.Image {
	c := e.plan.Config
	c.History = nil
	var last *time.Time
	var below *snapshot.Stack
	if b := e.plan.Base; b != nil {
		c.History = append(c.History, b.Config.History...)
		last = b.Config.Created
		below = e.images.stack(b.Digest)
	}
	for _, item := range e.plan.History {
		h := oci.History{CreatedBy: item.CreatedBy, Comment: "stagecraft", EmptyLayer: true, Created: last}
		if item.Vertex != graph.None {
			val := e.values.get(item.Vertex)
			if val.stack.Depth() > below.Depth() {
				h.EmptyLayer = false
			}
			below = val.stack
			if val.record != nil {
				created := val.record.Created
				h.Created, last = &created, &created
			}
		}
		c.History = append(c.History, h)
	}
	c.Created = last
	return c
}

// toFile writes to a new file that takes dest's place when it is whole. What is
// no regular file, a device or a pipe, is written to as it is; "-" is standard
// output.
func toFile(dest string, write func(*os.File) error) (err error) {
	if dest == "-" {
		return write(os.Stdout)
	}
	if info, err := os.Stat(dest); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(dest, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), dest)
}

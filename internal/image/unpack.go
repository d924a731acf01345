package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/tree"
)

// parallelLayers is how many layers are fetched and unpacked at once.
const parallelLayers = 4

// EnsureLayers makes sure that all layers of an image are in the store, and
// returns them, lowest first.
func EnsureLayers(ctx context.Context, store *cache.Store, img *Image) ([]*cache.Layer, error) {
	layers := make([]*cache.Layer, len(img.LayerIDs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	for n := range layers {
		group.Go(func() (err error) {
			layers[n], err = EnsureLayer(ctx, store, img, n)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return layers, nil
}

// EnsureLayer returns layer n of an image from the store. Where the store does
// not have it, it is fetched, verified and unpacked; its compressed bytes are
// kept as a blob, so that an image built on it can be written with the very
// layer that everyone else has.
//
// Hostile archives end in a *[tree.HostileError], damaged ones in a
// *[CorruptError]; the store then has nothing of them.
func EnsureLayer(ctx context.Context, store *cache.Store, img *Image, n int) (*cache.Layer, error) {
	if n < 0 || n >= len(img.LayerIDs) {
		return nil, fmt.Errorf("image %s: layer %d of %d", img.Ref, n, len(img.LayerIDs))
	}
	id := img.LayerIDs[n]
	if l, err := store.Layer(id); err == nil || !errors.Is(err, cache.ErrNotFound) {
		return l, err
	}
	unlock, err := store.Lock(ctx, "layer "+id.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if l, err := store.Layer(id); err == nil || !errors.Is(err, cache.ErrNotFound) {
		return l, err
	}
	if id != img.Config.RootFS.DiffIDs[n] {
		return nil, &NotFoundError{Ref: img.Ref, Reason: "its layer " + id.String() + " is no longer in the store",
			Try: "build the image again"}
	}
	var dir string
	var m *tree.Manifest
	err = readLayer(ctx, store, img, n, func(tar io.Reader) (err error) {
		if dir != "" { // the first bytes were damaged
			err = store.RemoveTemp(dir)
		}
		if err == nil {
			dir, err = store.TempDir("unpack")
		}
		if err == nil {
			m, err = tree.Extract(ctx, tar, dir, tree.ExtractOptions{})
		}
		return err
	})
	var encoded oci.Digest
	if err == nil {
		encoded, err = store.PutBlob(m.Encode())
	}
	if err != nil {
		if dir != "" {
			err = errors.Join(err, store.RemoveTemp(dir))
		}
		return nil, err
	}
	return store.CommitLayer(dir, cache.Layer{ID: id, Manifest: encoded, Files: m.Files(), Bytes: m.Bytes(),
		Opaque: m.Entries[0].Opaque})
}

// readLayer passes the tar of layer n to use, which reads it to its end, from
// the store's blob or from where the image is. It returns nil only when the
// digests of blob and tar were both right; the blob is then in the store.
//
// use may be called twice, when the store's blob turns out to be damaged.
func readLayer(ctx context.Context, store *cache.Store, img *Image, n int, use func(tar io.Reader) error) error {
	d := img.Manifest.Layers[n]
	if f, err := store.OpenBlob(d.Digest); err == nil {
		r := layerReader{img: img, n: n, blob: verify(f, d, img.layerName(n))}
		err := r.read(store, use)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			return err
		}
		if err := store.RemoveBlob(d.Digest); err != nil {
			return err
		}
	}
	blob, err := img.OpenLayer(ctx, n)
	if err != nil {
		return err
	}
	keep, err := store.NewBlob()
	if err != nil {
		blob.Close()
		return err
	}
	defer keep.Abort()
	r := layerReader{img: img, n: n, blob: blob, keep: keep}
	return r.read(store, use)
}

// layerReader reads a layer blob once: it verifies, decompresses, and keeps it.
type layerReader struct {
	img  *Image
	n    int
	blob io.ReadCloser // verified
	keep *cache.BlobWriter

	keepErr error
	tarErr  error // of reading the tar, where the blob's bytes are to blame
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.blob.Read(p)
	if r.keep != nil && n > 0 {
		if _, r.keepErr = r.keep.Write(p[:n]); r.keepErr != nil {
			return 0, r.keepErr
		}
	}
	return n, err
}

func (r *layerReader) read(store *cache.Store, use func(io.Reader) error) error {
	defer r.blob.Close()
	want := r.img.Config.RootFS.DiffIDs[r.n]
	dec, err := decompress(r)
	if err != nil {
		r.tarErr = err
		return r.unusable(r, err)
	}
	tar := &hashingReader{r: dec, hash: sha256.New(), err: &r.tarErr}
	err = use(tar)
	dec.close() // before the rest is read: the decompressor reads ahead
	if err != nil {
		return r.unusable(dec.blob, err)
	}
	// The decompressor may have stopped before the end, where the digest is
	// known.
	if _, err := io.Copy(io.Discard, dec.blob); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, tar.hash); got != want {
		return &CorruptError{r.img.layerName(r.n), fmt.Sprintf("its tar has digest %s, the config says %s", got, want)}
	}
	d := r.img.Manifest.Layers[r.n]
	if r.keep != nil {
		if _, _, err := r.keep.Commit(d.Digest); err != nil {
			return err
		}
	}
	return rememberOriginal(store, Packed{
		Layer:      want,
		Descriptor: oci.Descriptor{MediaType: dec.compression.mediaType(), Digest: d.Digest, Size: d.Size},
		DiffID:     want,
		TarSize:    tar.size,
	})
}

// unusable finds out why a blob could not be used. Where its bytes are wrong,
// which shows at their end, all else follows from that.
func (r *layerReader) unusable(rest io.Reader, err error) error {
	name := r.img.layerName(r.n)
	malformed := errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)
	var hostile *tree.HostileError
	switch {
	case r.keepErr != nil:
		return fmt.Errorf("unpack %s: %w", name, r.keepErr)
	case r.tarErr == nil && !malformed && !errors.As(err, &hostile):
		return fmt.Errorf("unpack %s: %w", name, err) // the bytes are not to blame
	}
	if _, restErr := io.Copy(io.Discard, rest); restErr != nil {
		return restErr
	}
	switch {
	case hostile != nil:
		return fmt.Errorf("unpack %s: %w", name, err)
	case r.tarErr != nil:
		return &CorruptError{name, "cannot be decompressed: " + r.tarErr.Error()}
	}
	return &CorruptError{name, "is no tar archive: " + err.Error()}
}

// hashingReader hashes and counts what it passes on, and notes an error in err.
type hashingReader struct {
	r    io.Reader
	hash hash.Hash
	size int64
	err  *error
}

func (h *hashingReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	h.size += int64(n)
	if err != nil && err != io.EOF {
		*h.err = err
	}
	return n, err
}

package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/tree"
)

// Packed is a layer as an image lists it.
type Packed struct {
	Layer      oci.Digest     `json:"layer"`      // id in the store
	Descriptor oci.Descriptor `json:"descriptor"` // of the blob
	DiffID     oci.Digest     `json:"diffID"`     // digest of the tar
	TarSize    int64          `json:"tarSize"`    // bytes, uncompressed
}

// PackOptions says how layers are packed. The zero value is gzip, on all CPUs.
type PackOptions struct {
	Compression Compression
	Threads     int // 0: GOMAXPROCS. The bytes do not depend on it
	// Bases are images whose layers may be among those packed. A pulled layer
	// whose compressed bytes the store has lost is fetched from there again.
	Bases []*Image
}

// Facts about packed layers. "pack" is keyed by layer, compression and version;
// "original" by layer: what a pulled layer came as, whatever its compression.
const (
	factPack     = "pack"
	factOriginal = "original"
	factDiffID   = "diffid"
)

// Pack returns a layer as a blob of the store, making it where it is missing.
//
// A layer that was pulled is returned as it came, whatever compression is asked
// for, so that it stays the layer that registries and runtimes know. Only when
// its bytes can no longer be had is it packed anew, with another diffID.
//
// An uncompressed layer is no blob: its descriptor is that of its tar, which
// [Image.OpenLayer] writes from the layer when it is read.
func Pack(ctx context.Context, store *cache.Store, layer *cache.Layer, o PackOptions) (Packed, error) {
	c := o.Compression.orDefault()
	if p, ok := packed(store, layer.ID, c); ok {
		return p, nil
	}
	unlock, err := store.Lock(ctx, "pack "+layer.ID.String()+" "+string(c))
	if err != nil {
		return Packed{}, err
	}
	defer unlock()
	if p, ok := packed(store, layer.ID, c); ok {
		return p, nil
	}
	for _, img := range o.Bases {
		n := slices.Index(img.LayerIDs, layer.ID)
		if n < 0 || layer.ID != img.Config.RootFS.DiffIDs[n] {
			continue
		}
		p, err := fetchOriginal(ctx, store, img, n)
		if err == nil || ctx.Err() != nil {
			return p, err
		}
	}
	p := Packed{Layer: layer.ID}
	if c == Uncompressed {
		p.Descriptor.MediaType = c.mediaType()
		if p.DiffID, p.TarSize, err = DiffID(ctx, store, layer); err != nil {
			return Packed{}, err
		}
		p.Descriptor.Digest, p.Descriptor.Size = p.DiffID, p.TarSize
		return p, nil
	}
	if p, err = writePacked(ctx, store, layer, c, o.Threads); err != nil {
		return Packed{}, err
	}
	return p, store.PutFact(factPack, packKey(layer.ID, c), &p)
}

// PackBase is [Pack] for layer n of an image whose layer need not be unpacked:
// it is fetched as it is, and verified down to its diffID.
func PackBase(ctx context.Context, store *cache.Store, img *Image, n int, o PackOptions) (Packed, error) {
	if n < 0 || n >= len(img.LayerIDs) {
		return Packed{}, fmt.Errorf("image %s: layer %d of %d", img.Ref, n, len(img.LayerIDs))
	}
	id := img.LayerIDs[n]
	layer, err := store.Layer(id)
	if err == nil {
		o.Bases = append([]*Image{img}, o.Bases...)
		return Pack(ctx, store, layer, o)
	}
	if !errors.Is(err, cache.ErrNotFound) {
		return Packed{}, err
	}
	if id != img.Config.RootFS.DiffIDs[n] {
		return Packed{}, &NotFoundError{Ref: img.Ref, Reason: "its layer " + id.String() + " is no longer in the store",
			Try: "build the image again"}
	}
	return fetchOriginal(ctx, store, img, n)
}

// DiffID returns digest and size in bytes of a layer's tar, without compressing
// anything. Both are remembered.
func DiffID(ctx context.Context, store *cache.Store, layer *cache.Layer) (oci.Digest, int64, error) {
	if p, ok := packed(store, layer.ID, Uncompressed); ok {
		return p.DiffID, p.TarSize, nil
	}
	made, err := whenMade(layer)
	if err != nil {
		return "", 0, err
	}
	var known tarFact
	ok, err := store.Fact(factDiffID, layer.ID.String(), &known)
	if err != nil || ok && known.Made == made {
		return known.DiffID, known.Size, err
	}
	sum := &countingHash{hash: sha256.New()}
	if err := writeLayerTar(ctx, store, layer, sum); err != nil {
		return "", 0, err
	}
	known = tarFact{digest.NewDigest(digest.SHA256, sum.hash), sum.size, made}
	return known.DiffID, known.Size, store.PutFact(factDiffID, layer.ID.String(), &known)
}

// tarFact is what is known of the tar of a layer. The id of a layer that was
// built here does not tell the times of its files, which the tar has: a layer
// that was lost and made again has another tar.
type tarFact struct {
	DiffID oci.Digest `json:"diffID"`
	Size   int64      `json:"size"`
	Made   string     `json:"made"`
}

// whenMade tells a layer from another of the same id that was there before.
func whenMade(layer *cache.Layer) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(layer.Dir, &st); err != nil {
		return "", fmt.Errorf("layer %s: %w", layer.ID, err)
	}
	return fmt.Sprintf("%d %d", st.Ino, unix.TimespecToNsec(st.Ctim)), nil
}

func packKey(layer oci.Digest, c Compression) string {
	return layer.String() + " " + string(c) + " " + packVersion
}

// packed returns what is remembered of a packed layer if its blob is still
// there: of a pulled one as it came, whatever c is.
func packed(store *cache.Store, layer oci.Digest, c Compression) (Packed, bool) {
	if p, ok := original(store, layer); ok {
		return p, true
	}
	return rememberedPack(store, factPack, packKey(layer, c))
}

// original returns what a pulled layer came as, if those bytes are still there.
func original(store *cache.Store, layer oci.Digest) (Packed, bool) {
	return rememberedPack(store, factOriginal, layer.String())
}

func rememberedPack(store *cache.Store, kind, key string) (p Packed, ok bool) {
	ok, err := store.Fact(kind, key, &p)
	return p, err == nil && ok && blobStands(store, p.Descriptor)
}

// blobStands reports whether a blob of that size is in the store. Its bytes are
// verified when they are read.
func blobStands(store *cache.Store, d oci.Descriptor) bool {
	f, err := store.OpenBlob(d.Digest)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.Size() == d.Size
}

// rememberOriginal notes as what a pulled layer came. Its blob is in the store.
func rememberOriginal(store *cache.Store, p Packed) error {
	return store.PutFact(factOriginal, p.Layer.String(), &p)
}

// fetchOriginal brings the compressed bytes of a pulled layer into the store,
// unless they are there.
func fetchOriginal(ctx context.Context, store *cache.Store, img *Image, n int) (Packed, error) {
	id := img.LayerIDs[n]
	if p, ok := original(store, id); ok {
		return p, nil
	}
	unlock, err := store.Lock(ctx, "layer "+id.String())
	if err != nil {
		return Packed{}, err
	}
	defer unlock()
	if p, ok := original(store, id); ok {
		return p, nil
	}
	err = readLayer(ctx, store, img, n, func(tar io.Reader) error {
		_, err := io.Copy(io.Discard, tar)
		return err
	})
	if err != nil {
		return Packed{}, err
	}
	p, ok := original(store, id)
	if !ok {
		return Packed{}, fmt.Errorf("pack %s: what was just written is gone", img.layerName(n))
	}
	return p, nil
}

// writePacked compresses a layer into a blob, in one pass over its files.
func writePacked(ctx context.Context, store *cache.Store, layer *cache.Layer, c Compression, threads int) (Packed, error) {
	blob, err := store.NewBlob()
	if err != nil {
		return Packed{}, err
	}
	defer blob.Abort()
	z, err := compressTo(blob, c, threads)
	if err != nil {
		return Packed{}, fmt.Errorf("pack layer %s: %w", layer.ID, err)
	}
	sum := &countingHash{hash: sha256.New(), w: z}
	err = writeLayerTar(ctx, store, layer, sum)
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return Packed{}, fmt.Errorf("pack layer %s: %w", layer.ID, err)
	}
	d, size, err := blob.Commit("")
	if err != nil {
		return Packed{}, err
	}
	p := Packed{
		Layer:      layer.ID,
		Descriptor: oci.Descriptor{MediaType: c.mediaType(), Digest: d, Size: size},
		DiffID:     digest.NewDigest(digest.SHA256, sum.hash),
		TarSize:    sum.size,
	}
	made, err := whenMade(layer)
	if err != nil {
		return Packed{}, err
	}
	return p, store.PutFact(factDiffID, layer.ID.String(), &tarFact{p.DiffID, p.TarSize, made})
}

// writeLayerTar writes the tar of a layer. A layer whose files are no longer
// what its manifest says is dropped from the store, so that what made it runs
// again.
func writeLayerTar(ctx context.Context, store *cache.Store, layer *cache.Layer, w io.Writer) error {
	m, err := LayerManifest(store, layer)
	if err != nil {
		return err
	}
	err = tree.WriteTar(ctx, w, layer.Dir, m)
	var corrupt *tree.CorruptError
	if errors.As(err, &corrupt) {
		err = errors.Join(err, store.RemoveLayer(layer.ID))
	}
	return err
}

// countingHash hashes and counts what is written, and passes it on to w, if
// any.
type countingHash struct {
	hash hash.Hash
	size int64
	w    io.Writer
}

func (c *countingHash) Write(p []byte) (int, error) {
	c.hash.Write(p)
	c.size += int64(len(p))
	if c.w == nil {
		return len(p), nil
	}
	return c.w.Write(p)
}

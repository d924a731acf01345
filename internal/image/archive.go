package image

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
)

// WriteArchive writes an image as a tar archive of an OCI layout. The same image
// and names give the same bytes. After an error w has a part of it.
func WriteArchive(ctx context.Context, img *Image, names []oci.Reference, w io.Writer) error {
	index, version, err := layoutMeta(layoutEntries(img, names))
	if err != nil {
		return err
	}
	a := &archiveWriter{tar: tar.NewWriter(w)}
	a.dir("blobs/")
	a.dir("blobs/sha256/")
	for _, b := range archiveBlobs(img) {
		if b.layer < 0 {
			a.file(blobName(b.Digest), b.raw)
			continue
		}
		a.layer(ctx, img, b.layer)
	}
	a.file(v1.ImageIndexFile, index)
	a.file(v1.ImageLayoutFile, version)
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return fmt.Errorf("write image archive: %w", a.err)
	}
	return nil
}

// archiveBlob is a blob that is in memory, or a layer.
type archiveBlob struct {
	oci.Descriptor
	raw   []byte
	layer int // -1 for one in memory
}

// archiveBlobs are an image's blobs, each once, in the order of their digests.
func archiveBlobs(img *Image) []archiveBlob {
	blobs := []archiveBlob{
		{oci.Descriptor{Digest: img.Digest}, img.RawManifest, -1},
		{img.Manifest.Config, img.RawConfig, -1},
	}
	for n, d := range img.Manifest.Layers {
		blobs = append(blobs, archiveBlob{d, nil, n})
	}
	slices.SortStableFunc(blobs, func(a, b archiveBlob) int { return cmp.Compare(a.Digest, b.Digest) })
	return slices.CompactFunc(blobs, func(a, b archiveBlob) bool { return a.Digest == b.Digest })
}

// archiveWriter writes members until the first error.
type archiveWriter struct {
	tar *tar.Writer
	err error
}

func (a *archiveWriter) header(h tar.Header) {
	if a.err == nil {
		h.ModTime = time.Unix(0, 0)
		a.err = a.tar.WriteHeader(&h)
	}
}

func (a *archiveWriter) dir(name string) {
	a.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (a *archiveWriter) file(name string, b []byte) {
	a.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(b))})
	if a.err == nil {
		_, a.err = a.tar.Write(b)
	}
}

func (a *archiveWriter) layer(ctx context.Context, img *Image, n int) {
	if a.err != nil {
		return
	}
	r, err := img.OpenLayer(ctx, n)
	if err != nil {
		a.err = err
		return
	}
	defer r.Close()
	d := img.Manifest.Layers[n]
	a.header(tar.Header{Typeflag: tar.TypeReg, Name: blobName(d.Digest), Mode: 0o444, Size: d.Size})
	if a.err == nil {
		_, a.err = io.CopyBuffer(struct{ io.Writer }{a.tar}, r, make([]byte, 1<<20))
	}
}

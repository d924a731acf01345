package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
)

// ValidateLayout checks an OCI layout, a directory or a tar archive of one, and
// every image in it: that all that is named is there and right, that nothing
// else is there, and what [ValidateImage] checks. It reads every byte. The
// error lists all that is wrong.
func ValidateLayout(ctx context.Context, path string) error {
	files, err := openLayoutFiles(path)
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	defer files.Close()
	v := &validator{ctx: ctx, files: files, layout: Layout{Path: path}, used: map[oci.Digest]bool{}}
	v.all()
	if len(v.errs) > 0 {
		return fmt.Errorf("validate %s: %w", path, errors.Join(v.errs...))
	}
	return nil
}

// ValidateImage checks one image, wherever it is: media types, digests and
// sizes, that the config's diffIDs are those of the layers, that the history
// tells of as many layers as there are, that the platform is set, and that the
// layers' tars are well-formed. It reads every byte.
func ValidateImage(ctx context.Context, img *Image) error {
	errs := imageFaults(ctx, img)
	if len(errs) > 0 {
		return fmt.Errorf("validate image %s: %w", img.Ref, errors.Join(errs...))
	}
	return nil
}

type validator struct {
	ctx    context.Context
	files  layoutFiles
	layout Layout
	used   map[oci.Digest]bool
	errs   []error
}

func (v *validator) fault(format string, a ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, a...))
}

func (v *validator) all() {
	index, err := v.layout.index(v.files)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	if len(index.Manifests) == 0 {
		v.fault("index.json lists nothing")
	}
	if index.SchemaVersion != 2 {
		v.fault("index.json: schemaVersion %d, want 2", index.SchemaVersion)
	}
	if index.MediaType != "" && index.MediaType != v1.MediaTypeImageIndex {
		v.fault("index.json: media type %q", index.MediaType)
	}
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		if name := entryName(d); seen[name] {
			v.fault("index.json: %s is listed twice", name)
		} else {
			seen[name] = true
		}
		v.entry(d, 0)
	}
	v.strays()
}

// entry checks an index or an image, and what is below it.
func (v *validator) entry(d oci.Descriptor, depth int) {
	v.used[d.Digest] = true
	raw, err := v.layout.readBlob(v.files, d, maxManifest)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	index, err := isIndex(v.layout.String(), d.MediaType, raw)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	if !index {
		v.image(d, raw)
		return
	}
	list, err := parseIndex(v.layout.String(), raw)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	if depth > 3 {
		v.fault("index %s: more than 4 levels of indexes", d.Digest)
		return
	}
	if d.MediaType != v1.MediaTypeImageIndex && d.MediaType != dockerManifestList {
		v.fault("index %s is listed with media type %q", d.Digest, d.MediaType)
	}
	for _, d := range list.Manifests {
		v.entry(d, depth+1)
	}
}

func (v *validator) image(d oci.Descriptor, raw []byte) {
	m, err := parseManifest(v.layout.String(), raw)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	v.used[m.Config.Digest] = true
	for _, l := range m.Layers {
		v.used[l.Digest] = true
	}
	config, err := v.layout.readBlob(v.files, m.Config, maxConfig)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	img, err := newImage(v.layout.String(), raw, config, v.layout)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	if d.MediaType != v1.MediaTypeImageManifest && d.MediaType != dockerManifest {
		v.fault("image %s is listed with media type %q", d.Digest, d.MediaType)
	}
	if m.MediaType != "" && m.MediaType != d.MediaType {
		v.fault("image %s has media type %q and is listed with %q", d.Digest, m.MediaType, d.MediaType)
	}
	if p := d.Platform; p != nil && oci.FormatPlatform(*p) != oci.FormatPlatform(img.Config.Platform) {
		v.fault("image %s is listed for %s and made for %s", d.Digest,
			oci.FormatPlatform(*p), oci.FormatPlatform(img.Config.Platform))
	}
	v.errs = append(v.errs, imageFaults(v.ctx, img)...)
}

// strays finds files that nothing leads to.
func (v *validator) strays() {
	names, err := v.files.names()
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	known := map[string]bool{v1.ImageLayoutFile: true, v1.ImageIndexFile: true}
	for d := range v.used {
		known[blobName(d)] = true
	}
	for _, name := range names {
		if !known[name] {
			v.fault("%s: nothing refers to this file", name)
		}
	}
}

// imageFaults is what [ValidateImage] finds.
func imageFaults(ctx context.Context, img *Image) (errs []error) {
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	docker := img.Manifest.MediaType == dockerManifest
	wantConfig := v1.MediaTypeImageConfig
	if docker {
		wantConfig = "application/vnd.docker.container.image.v1+json"
	}
	if got := img.Manifest.Config.MediaType; got != wantConfig {
		fault("config: media type %q, want %q", got, wantConfig)
	}
	if img.Config.OS == "" || img.Config.Architecture == "" {
		fault("config: platform %q/%q is not set", img.Config.OS, img.Config.Architecture)
	}
	if img.Config.RootFS.Type != "layers" {
		fault("config: rootfs type %q, want layers", img.Config.RootFS.Type)
	}
	if n := filledHistory(img.Config.History); len(img.Config.History) > 0 && n != len(img.Manifest.Layers) {
		fault("config: the history tells of %d layers, there are %d", n, len(img.Manifest.Layers))
	}
	for n, d := range img.Manifest.Layers {
		if docker != strings.HasPrefix(d.MediaType, "application/vnd.docker.") {
			fault("layer %d: media type %q in a manifest of type %q", n, d.MediaType, img.Manifest.MediaType)
		}
		if err := validateLayer(ctx, img, n); err != nil {
			fault("layer %d: %w", n, err)
		}
	}
	return errs
}

func validateLayer(ctx context.Context, img *Image, n int) error {
	blob, err := img.OpenLayer(ctx, n)
	if err != nil {
		return err
	}
	defer blob.Close()
	dec, err := decompress(blob)
	if err != nil {
		return err
	}
	defer dec.close()
	mediaType := img.Manifest.Layers[n].MediaType
	if got := compressionOf(mediaType); got != dec.compression {
		return fmt.Errorf("media type %q, but the blob is %s", mediaType, dec.compression)
	}
	sum := sha256.New()
	tarErr := validateTar(io.TeeReader(dec, sum))
	if _, err := io.Copy(io.Discard, dec.blob); err != nil {
		return err
	}
	if tarErr != nil {
		return tarErr
	}
	if got, want := digest.NewDigest(digest.SHA256, sum), img.Config.RootFS.DiffIDs[n]; got != want {
		return fmt.Errorf("its tar has digest %s, the config says %s", got, want)
	}
	return nil
}

// compressionOf is the compression that a media type promises.
func compressionOf(mediaType string) Compression {
	switch mediaType {
	case v1.MediaTypeImageLayerGzip, dockerLayerGzip:
		return Gzip
	case v1.MediaTypeImageLayerZstd, dockerLayerZstd:
		return Zstd
	}
	return Uncompressed
}

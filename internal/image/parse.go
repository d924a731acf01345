package image

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
)

// Media types of Docker's image manifest version 2, schema 2, and of the older
// schema 1, which names no config and is refused.
// https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign      = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	dockerSchema1      = "application/vnd.docker.distribution.manifest.v1"
)

// document is what is needed to tell the kinds of manifests apart. Keys decide
// as well as the media type does: a document that could be read as both is
// refused (CVE-2021-41190).
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// isIndex reports whether raw is an index (or a Docker manifest list). The
// media type is the one that the source claims, "" where it makes no claim.
func isIndex(ref, mediaType string, raw []byte) (bool, error) {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return false, &InvalidError{"manifest of " + ref, "is not JSON: " + err.Error()}
	}
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	if strings.HasPrefix(mediaType, dockerSchema1) || d.SchemaVersion == 1 || d.FSLayers != nil {
		return false, &InvalidError{"manifest of " + ref, "has Docker schema 1, which is no longer read"}
	}
	if d.SchemaVersion != 2 {
		return false, &InvalidError{"manifest of " + ref, fmt.Sprintf("has schemaVersion %d, want 2", d.SchemaVersion)}
	}
	if d.MediaType != "" {
		mediaType = d.MediaType
	}
	index := d.Manifests != nil
	if index && (d.Layers != nil || d.Config != nil) {
		return false, &InvalidError{"manifest of " + ref, "can be read as an image and as an index"}
	}
	switch mediaType {
	case v1.MediaTypeImageIndex, dockerManifestList:
		if !index {
			return false, &InvalidError{"manifest of " + ref, "claims to be an index and lists no manifests"}
		}
	case v1.MediaTypeImageManifest, dockerManifest:
		if index {
			return false, &InvalidError{"manifest of " + ref, "claims to be an image and lists manifests"}
		}
	case "", "application/json", "text/plain", "application/octet-stream":
		// Some registries and plain file servers do not know better.
	default:
		return false, &InvalidError{"manifest of " + ref, fmt.Sprintf("has media type %q, which is no image", mediaType)}
	}
	return index, nil
}

func parseIndex(ref string, raw []byte) (*oci.Index, error) {
	var index oci.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, &InvalidError{"index of " + ref, err.Error()}
	}
	for i := range index.Manifests {
		if err := checkDescriptor(&index.Manifests[i]); err != nil {
			return nil, &InvalidError{"index of " + ref, err.Error()}
		}
	}
	return &index, nil
}

func parseManifest(ref string, raw []byte) (*oci.Manifest, error) {
	invalid := func(format string, a ...any) error {
		return &InvalidError{"manifest of " + ref, fmt.Sprintf(format, a...)}
	}
	if index, err := isIndex(ref, "", raw); err != nil {
		return nil, err
	} else if index {
		return nil, invalid("is an index, an image is wanted here")
	}
	var m oci.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, invalid("%v", err)
	}
	if err := checkDescriptor(&m.Config); err != nil {
		return nil, invalid("config: %v", err)
	}
	if len(m.Layers) > maxLayers {
		return nil, invalid("%d layers are more than the limit of %d", len(m.Layers), maxLayers)
	}
	for n := range m.Layers {
		d := &m.Layers[n]
		if err := checkDescriptor(d); err != nil {
			return nil, invalid("layer %d: %v", n, err)
		}
		switch d.MediaType {
		case v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd,
			dockerLayer, dockerLayerGzip, dockerLayerZstd:
		case dockerForeign, v1.MediaTypeImageLayerNonDistributable, v1.MediaTypeImageLayerNonDistributableGzip, v1.MediaTypeImageLayerNonDistributableZstd: //nolint:staticcheck // read, never written
			return nil, invalid("layer %d is not distributed by registries (%s)", n, d.MediaType)
		default:
			return nil, invalid("layer %d has media type %q, which is no file system layer", n, d.MediaType)
		}
	}
	return &m, nil
}

func parseConfig(ref string, raw []byte) (*oci.Image, error) {
	var c oci.Image
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, &InvalidError{"config of " + ref, err.Error()}
	}
	for n, d := range c.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return nil, &InvalidError{"config of " + ref, fmt.Sprintf("diffID %d: %v", n, err)}
		}
	}
	return &c, nil
}

func checkDescriptor(d *oci.Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	return checkDigest(d.Digest)
}

func checkDigest(d oci.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %.100q: %w", string(d), err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %s: only sha256 is supported", d)
	}
	return nil
}

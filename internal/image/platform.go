package image

import (
	"github.com/containerd/platforms"
	"stagecraft/internal/oci"
)

// attestationType marks what buildx adds to an index beside images: provenance
// and bills of materials in the shape of a manifest.
const attestationType = "vnd.docker.reference.type"

// choosePlatform picks from an index the manifest for a platform: the best
// match of those that name a platform, else the only one that names none.
func choosePlatform(ref string, index *oci.Index, want oci.Platform) (oci.Descriptor, error) {
	match := platforms.Only(want)
	var best *oci.Descriptor
	var unnamed []*oci.Descriptor
	var have []string
	for n := range index.Manifests {
		d := &index.Manifests[n]
		switch {
		case d.Annotations[attestationType] != "":
		case d.Platform == nil:
			unnamed = append(unnamed, d)
		case d.Platform.OS == "unknown":
		default:
			have = append(have, oci.FormatPlatform(*d.Platform))
			if match.Match(*d.Platform) && (best == nil || match.Less(*d.Platform, *best.Platform)) {
				best = d
			}
		}
	}
	if best == nil && len(have) == 0 && len(unnamed) == 1 {
		best = unnamed[0]
	}
	if best == nil {
		return oci.Descriptor{}, platformError(ref, oci.FormatPlatform(want), have)
	}
	return *best, nil
}

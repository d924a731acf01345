package image

import (
	"strings"
	"testing"

	"stagecraft/internal/oci"
)

func TestChoosePlatform(t *testing.T) {
	entry := func(platform string) oci.Descriptor {
		d := oci.Descriptor{Digest: oci.FromBytes([]byte(platform))}
		if os, rest, ok := strings.Cut(platform, "/"); ok {
			arch, variant, _ := strings.Cut(rest, "/")
			d.Platform = &oci.Platform{OS: os, Architecture: arch, Variant: variant}
		}
		return d
	}
	attestation := entry("unknown/unknown")
	attestation.Annotations = map[string]string{attestationType: "attestation-manifest"}
	unnamedAttestation := entry("attestation")
	unnamedAttestation.Annotations = attestation.Annotations
	for name, test := range map[string]struct {
		want    string
		entries []oci.Descriptor
		chosen  string // "" for none
	}{
		"exact":             {"linux/amd64", []oci.Descriptor{entry("linux/arm64"), entry("linux/amd64")}, "linux/amd64"},
		"highest variant":   {"linux/arm/v7", []oci.Descriptor{entry("linux/arm/v5"), entry("linux/arm/v6"), entry("linux/arm/v8")}, "linux/arm/v6"},
		"arm64 as v8":       {"linux/arm64", []oci.Descriptor{entry("linux/arm64/v8")}, "linux/arm64/v8"},
		"with attestations": {"linux/amd64", []oci.Descriptor{attestation, entry("linux/amd64"), unnamedAttestation}, "linux/amd64"},
		"only unnamed":      {"linux/amd64", []oci.Descriptor{entry("one"), unnamedAttestation}, "one"},
		"two unnamed":       {"linux/amd64", []oci.Descriptor{entry("one"), entry("two")}, ""},
		"other system":      {"linux/amd64", []oci.Descriptor{entry("windows/amd64")}, ""},
		"only attestations": {"linux/amd64", []oci.Descriptor{attestation}, ""},
		"empty":             {"linux/amd64", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := oci.ParsePlatform(test.want)
			if err != nil {
				t.Fatal(err)
			}
			d, err := choosePlatform("app", &oci.Index{Manifests: test.entries}, want)
			if test.chosen == "" {
				wantError[*NotFoundError](t, err)
				return
			}
			if err != nil || d.Digest != oci.FromBytes([]byte(test.chosen)) {
				t.Errorf("chose %+v (%v), want %s", d.Platform, err, test.chosen)
			}
		})
	}
}

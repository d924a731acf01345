package oci

import (
	"github.com/containerd/platforms"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is an operating system, an architecture and its variant.
type Platform = v1.Platform

// HostPlatform is the platform this process runs on, normalised.
func HostPlatform() Platform { return platforms.Normalize(platforms.DefaultSpec()) }

// ParsePlatform reads "linux/arm64/v8", "amd64" and the like, and normalises
// aliases such as x86_64.
func ParsePlatform(s string) (Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return Platform{}, err
	}
	return platforms.Normalize(p), nil
}

// FormatPlatform writes p as os/arch[/variant].
func FormatPlatform(p Platform) string { return platforms.Format(platforms.Normalize(p)) }

// MatchPlatform reports whether an image made for got can run where want is
// asked for. It is exact but for variants that the platform library orders
// (linux/arm/v7 runs v6).
func MatchPlatform(want, got Platform) bool { return platforms.Only(want).Match(got) }

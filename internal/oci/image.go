package oci

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Digest is a content address such as "sha256:ab12...".
type Digest = digest.Digest

// Descriptor names a blob by media type, digest and size in bytes.
type Descriptor = v1.Descriptor

// Manifest lists the config and the layers of an image for one platform.
type Manifest = v1.Manifest

// Index lists manifests, usually one per platform.
type Index = v1.Index

// Image is the image config file: platform, runtime config, layer diffIDs and
// history. It is the OCI config with Docker's additions (HEALTHCHECK, ONBUILD,
// SHELL), as every builder writes it.
type Image = dockerspec.DockerOCIImage

// Config is the runtime part of an [Image]: Env, Cmd, User and so on.
type Config = dockerspec.DockerOCIImageConfig

// Healthcheck is the HEALTHCHECK part of a [Config].
type Healthcheck = dockerspec.HealthcheckConfig

// History is one line of an image's history.
type History = v1.History

// RootFS lists the diffIDs of an image's layers, lowest first.
type RootFS = v1.RootFS

// FromBytes returns the SHA-256 digest of b.
func FromBytes(b []byte) Digest { return digest.FromBytes(b) }

package oci

import (
	"fmt"

	"github.com/distribution/reference"
)

// Reference is a normalised image name: registry host, repository, and a tag,
// a digest or both. The zero value is no reference.
type Reference struct {
	named  reference.Named
	tagged string
}

// ParseReference reads a name as docker users write it: "debian" becomes
// docker.io/library/debian:latest. A name with a digest and no tag gets none.
func ParseReference(s string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image name %q: %w", s, err)
	}
	named = reference.TagNameOnly(named)
	r := Reference{named: named}
	if t, ok := named.(reference.Tagged); ok {
		r.tagged = t.Tag()
	}
	return r, nil
}

// String is the full name, host and tag or digest included.
func (r Reference) String() string {
	if r.named == nil {
		return ""
	}
	return r.named.String()
}

// Familiar is the name as docker shows it: docker.io/library/ is dropped.
func (r Reference) Familiar() string {
	if r.named == nil {
		return ""
	}
	return reference.FamiliarString(r.named)
}

// Host is the registry host, "docker.io" when the name had none.
func (r Reference) Host() string { return reference.Domain(r.named) }

// Path is the repository without its host, e.g. "library/debian".
func (r Reference) Path() string { return reference.Path(r.named) }

// Repository is host and path, without tag and digest.
func (r Reference) Repository() string { return r.named.Name() }

// Tag is the tag, "" where the name has only a digest.
func (r Reference) Tag() string { return r.tagged }

// Digest is the pinned digest, "" where there is none.
func (r Reference) Digest() Digest {
	if d, ok := r.named.(reference.Digested); ok {
		return d.Digest()
	}
	return ""
}

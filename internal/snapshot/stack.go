package snapshot

import (
	"crypto/sha256"

	"github.com/opencontainers/go-digest"
	"stagecraft/internal/oci"
)

// Stack is an immutable pile of layers. Pushing shares what lies below, so a
// thousand steps cost a thousand small values. The nil Stack is the empty root.
type Stack struct {
	below   *Stack
	layer   oci.Digest
	content oci.Digest
	depth   int
}

// emptyContent is the content id of the empty root.
var emptyContent = oci.FromBytes([]byte("stagecraft empty root"))

// Push returns the stack with one more layer on top.
func (s *Stack) Push(layer oci.Digest) *Stack {
	h := sha256.New()
	h.Write([]byte(s.Content()))
	h.Write([]byte{'\n'})
	h.Write([]byte(layer))
	return &Stack{below: s, layer: layer, content: digest.NewDigest(digest.SHA256, h), depth: s.Depth() + 1}
}

// Content identifies the root file system: equal stacks of equal layers have
// equal ids.
func (s *Stack) Content() oci.Digest {
	if s == nil {
		return emptyContent
	}
	return s.content
}

// Depth is the number of layers.
func (s *Stack) Depth() int {
	if s == nil {
		return 0
	}
	return s.depth
}

// Layers lists the layer ids, lowest first.
func (s *Stack) Layers() []oci.Digest {
	ids := make([]oci.Digest, s.Depth())
	for at := s; at != nil; at = at.below {
		ids[at.depth-1] = at.layer
	}
	return ids
}

// Package oci holds the values of the OCI image specifications: digests,
// descriptors, references, platforms and the image config.
//
// It does no I/O and never touches the disk or the network. The structures are
// the field's own (opencontainers, moby, distribution); this package only
// gathers them under one import and adds the parsing rules that docker users
// know.
//
// Start reading at [Reference], then [Image].
package oci

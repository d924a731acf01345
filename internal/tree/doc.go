// Package tree handles directory trees: what a layer, an image root or a build
// context holds, and how trees become one another.
//
// It has two representations of a tree. On disk a layer is overlay-ready: a
// whiteout is a character device 0:0, an opaque directory carries the overlay
// attribute. In memory and in the store it is a [Manifest]: sorted entries with
// content digests, which know neither devices nor attributes of the overlay,
// only [KindWhiteout] and [Entry.Opaque]. Tars are in OCI form (".wh." names).
//
// Ways in: [Scan] reads a directory, [Extract] a layer tar, [Builder] assembles
// a layer from copies. Ways out: [WriteTar]. A [View] is the merged tree of a
// stack of layers without a mount, a [Context] a local directory behind ignore
// rules; both are a [Source] that [Select] picks from.
//
// The package never mounts, never follows a symlink out of a root, never
// changes a file that it did not make, and never fsyncs: what it writes is
// private to the caller until committed.
//
// Invariants: a manifest lists "." first and parents before children; the same
// tree gives the same manifest whichever way it was made; times are not part of
// a manifest.
//
// Start reading at [Entry], then [Manifest], then layerWriter, through which
// every layer is written.
package tree

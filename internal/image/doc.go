// Package image brings images in and out: it resolves names at registries, in
// OCI layouts and in the local store, unpacks layers, packs layers, assembles
// images and writes them as OCI layouts and archives.
//
// Everything is an [Image]: manifest and config in memory, layers behind
// [Image.OpenLayer]. A [Source] makes one from a name, [Assemble] makes one
// from layers of the store, [WriteLayout] takes one, wherever it came from.
//
// The package never runs anything, never mounts, and never decides what goes
// into an image. It never holds credentials: pulls are anonymous.
//
// Invariants:
//
//   - Bytes are lazy. Resolving fetches a manifest and a config, never a layer.
//   - Bytes from outside are bounded and verified. A layer is committed to the
//     store only when the digest of the compressed bytes and that of the tar
//     (the diffID) both held and the stream was read to its end.
//   - Packing is deterministic: one layer gives the same bytes on any machine
//     with any number of threads. Layers that were pulled keep the compressed
//     bytes they came with.
//   - An output appears whole by one rename, or not at all.
//   - An image is listed in the local store only when all of it is there.
//
// Start reading at [Image], then [Resolver], [EnsureLayer], [Pack] and
// [Assemble].
package image

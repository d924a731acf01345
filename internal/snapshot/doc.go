// Package snapshot makes writable roots over committed layers, and layers of
// what was written there.
//
// A [Stack] is the immutable side: which layers lie over which, and the content
// id of the whole. A [Root] is the writable side: the directories a RUN step
// works in until they are committed, by one rename, or dropped.
//
// It never mounts: an overlay is described here and mounted by the sandbox,
// inside the process that uses it, so a builder that is killed leaves no mount.
//
// Start reading at [Stack], then [Prepare].
package snapshot

// Package plan turns the stages of a Dockerfile into a graph: targets, ARG and
// ENV scopes, base images, named contexts.
//
// It decides what every instruction means and what the target needs; a stage
// that nothing the target needs refers to is listed with the reason, but only
// the names it refers to are looked at, and no image is asked for. It
// does no I/O: images are resolved through a [Resolver], and files of the
// context are named, never read.
//
// Invariants: a [dockerfile.File] is read, never written, so one file can be
// planned many times; equal input gives an equal graph, vertex for vertex,
// whatever order the resolver answers in; cost is linear in stages and
// instructions, and what variables expand to is bounded.
//
// The phases, in the order in which they read: link (what refers to what),
// need (what the target needs), refuse (what is not supported), resolve (base
// images, in parallel), build (instructions into vertices).
//
// Start reading at [New], then stageBuilder.
package plan

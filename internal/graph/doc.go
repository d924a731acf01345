// Package graph is the build as data: immutable vertices, a sealed set of
// operations, and the edges between them.
//
// It knows nothing of Dockerfiles, caches or processes: the planner writes a
// [Graph], the solver orders it, package build runs the operations. A graph
// holds only what the target needs; a stage that nothing refers to never
// becomes a vertex.
//
// Invariants: every input of a vertex has a smaller ID than the vertex, so the
// slice order is a topological order and a cycle cannot be written down; an op
// is never changed after [Graph.Add].
//
// The ops can say what BuildKit's LLB says (sources, exec, file actions), one
// Go type each; a new kind of step is a new type here and a new op_*.go in
// package build, nothing else.
//
// Start reading at [Graph], then [Op].
package graph

// Package dockerfile reads Dockerfiles: bytes in; stages, instructions and
// diagnostics with their lines out.
//
// The grammar is BuildKit's own parser, so no dialect of it appears here. This
// package adds bounds (size, nesting), one error type for everything that can
// be wrong with a Dockerfile, and hints kept apart from what happened.
//
// It does no I/O, expands no variables and gives no instruction a meaning:
// package plan does. A [File] is never changed once [Parse] returned it, by
// anyone: planning it twice gives the same plan.
//
// Start reading at [Parse], then [Error].
package dockerfile

// Package build is the use case: a [Request] in, an image out.
//
// It wires the other packages together and holds what needs several of them:
// the runner that gives each op its meaning (one op_*.go per op), the exporters,
// and running a container of an image or of a stage.
//
// It parses no flags and prints nothing: what happens is told as a stream of
// [Event] values, what went wrong as a *[Failure].
//
// Start reading at [Builder.Build], then runner.go.
package build

package plan

import (
	"context"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// Options are the settings of a plan. The zero value plans the last stage for
// the host's platform.
type Options struct {
	Target    string             // stage name or index; "" is the last stage
	BuildArgs map[string]string  // of --build-arg
	Labels    map[string]string  // of --label; they win over LABEL
	Platform  oci.Platform       // to build for; the zero value is Host
	Host      oci.Platform       // to build on; the zero value is this machine's
	Contexts  map[string]Context // of --build-context, by name
	NoCache   bool               // run every step even if a record exists
}

// Context is a named context. It replaces the stage or image of its name, in
// FROM and in COPY --from.
type Context struct {
	Local bool   // a local directory, [graph.Local] with the context's name
	Image string // else what the [Resolver] is asked for
}

// Resolver finds images. It is called concurrently, once for each distinct
// name that the target needs.
type Resolver interface {
	// ResolveImage finds an image for platform p. The name is a full reference
	// such as "docker.io/library/debian:12", or the Image of a [Context].
	ResolveImage(ctx context.Context, name string, p oci.Platform) (Base, error)
}

// Base is an image that a stage is built on or copies from.
type Base struct {
	Ref    string     // as resolved: "docker.io/library/debian:12"
	Digest oci.Digest // of the platform's manifest
	Config oci.Image
}

// Plan is what a build will do.
type Plan struct {
	Graph    *graph.Graph
	Target   graph.ID      // root file system of the target; graph.None where it has no layers
	Config   oci.Image     // of the target; without RootFS, History and Created
	History  []HistoryItem // of the steps above Base, oldest first, through the whole FROM chain
	Base     *Base         // the image at the bottom of the target's FROM chain; nil for scratch
	Stages   []Stage       // every stage of the file, in its order
	Warnings []Warning
}

// HistoryItem is one line of the image's history.
type HistoryItem struct {
	CreatedBy string   // as docker history shows it: "COPY src dst"
	Vertex    graph.ID // what made its layer; graph.None where it has none
}

// Stage is a stage of the file and its part in the plan.
type Stage struct {
	Index     int
	Name      string         // lower case; "" where it has none
	From      string         // what it is built on, expanded; for a stage that a context replaces, the context
	Pos       graph.Position // of its FROM
	Needed    bool
	Target    bool
	Reason    string   // why it is needed, or is not: "nothing the target needs copies from it or builds on it"
	DependsOn []int    // indices of the stages it copies from or builds on, ascending
	Root      graph.ID // graph.None where it has no layers or is not needed
	Base      *Base    // the image its FROM names; nil for scratch, a stage, or where it is not needed
}

// Warning is a finding that does not stop the build.
type Warning struct {
	Pos  graph.Position
	Text string
}

// New plans a build of the file. Errors are *[dockerfile.Error]; where the
// resolver or the context ended it, that error is wrapped.
func New(ctx context.Context, file *dockerfile.File, o Options, r Resolver) (*Plan, error) {
	p, err := newPlanner(file, o)
	if err != nil {
		return nil, err
	}
	if err := p.link(); err != nil {
		return nil, err
	}
	target, err := p.findTarget()
	if err != nil {
		return nil, err
	}
	if err := p.need(target); err != nil {
		return nil, err
	}
	if err := p.refuse(); err != nil {
		return nil, err
	}
	if err := p.resolve(ctx, r); err != nil {
		return nil, err
	}
	for _, s := range p.stages {
		if !s.Needed {
			continue
		}
		if err := p.build(s); err != nil {
			return nil, err
		}
	}
	return p.finish(target)
}

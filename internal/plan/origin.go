package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"golang.org/x/sync/errgroup"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// maxResolving is how many images are asked for at once.
const maxResolving = 16

// origin is a file system that is not the stage's own: another stage, an
// image, or a local directory. One that is none of them has no files.
type origin struct {
	stage int    // index, -1 for none
	image *image // or an image
	local string // or the name of a local context

	copied bool // a COPY --from names it, which could have meant a stage
	place  place
}

// place is where a file names an origin, for messages.
type place struct {
	line        int
	instruction string
}

// imageKey tells the questions to the resolver apart.
type imageKey struct{ name, platform string }

// image is one question to the resolver, and the answer.
type image struct {
	imageKey
	ask  oci.Platform
	base *Base // nil until it was resolved
}

// platform is the image's own, normalised: "arm64" for one that says "aarch64"
// and "v8". One that does not say is taken for what was asked for.
func (i *image) platform() oci.Platform {
	p := i.base.Config.Platform
	if p.OS == "" || p.Architecture == "" {
		p = i.ask
	}
	return platforms.Normalize(p)
}

// rootKey tells images that are vertices apart.
type rootKey struct {
	ref    string
	digest oci.Digest
}

// contextName brings the names by which a context and an image can be called
// to one form, as buildx does: docker.io/library/golang:latest is golang.
func contextName(name string) string {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return strings.ToLower(name)
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest")
}

// imageOrigin is the origin that an image name stands for: a named context, or
// else an image.
func (p *planner) imageOrigin(name string, platform oci.Platform, at place) (*origin, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return nil, err
	}
	key := contextName(name)
	if c, ok := p.contexts[key]; ok && key != "scratch" && key != "context" {
		return p.contextOrigin(name, c, platform, at), nil
	}
	return &origin{stage: -1, image: p.image(ref.String(), platform), place: at}, nil
}

func (p *planner) contextOrigin(name string, c Context, platform oci.Platform, at place) *origin {
	if c.Local {
		return &origin{stage: -1, local: contextName(name), place: at}
	}
	return &origin{stage: -1, image: p.image(c.Image, platform), place: at}
}

// image returns the one question about an image.
func (p *planner) image(name string, platform oci.Platform) *image {
	key := imageKey{name, oci.FormatPlatform(platform)}
	if p.images[key] == nil {
		p.images[key] = &image{imageKey: key, ask: platform}
	}
	return p.images[key]
}

// resolve asks for the images of the stages that are needed, each once.
func (p *planner) resolve(ctx context.Context, r Resolver) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxResolving)
	asked := make(map[*image]bool)
	ask := func(o *origin) {
		if o == nil || o.image == nil || asked[o.image] {
			return
		}
		asked[o.image] = true
		g.Go(func() error {
			base, err := r.ResolveImage(ctx, o.image.name, o.image.ask)
			if err != nil {
				return p.unresolved(o, err)
			}
			o.image.base = &base
			return nil
		})
	}
	for _, s := range p.stages {
		if !s.Needed {
			continue
		}
		ask(s.from)
		for i := range s.src.Commands {
			ask(s.copies[i])
		}
	}
	return g.Wait()
}

// unresolved explains why there is no such image. A COPY --from that names no
// stage is taken for an image, so a misspelt stage ends up here.
func (p *planner) unresolved(o *origin, cause error) *dockerfile.Error {
	name := contextName(o.image.name)
	about := "image " + name
	if o.copied {
		about = fmt.Sprintf("%s is no stage, and as an image", name)
	}
	e := p.file.Errorf(o.place.line, o.place.instruction, "%s: %v", about, cause)
	e.Err = cause
	e.Hint = p.suggestStage(name)
	return e
}

// rootOf returns the vertex of an origin's files, made at its first use.
func (p *planner) rootOf(o *origin, name string) graph.ID {
	switch {
	case o.stage >= 0:
		s := p.stages[o.stage]
		if s.Root != graph.None {
			return s.Root
		}
		if s.from != nil && s.from.local != "" {
			return p.localRoot(s.from.local) // a directory is copied from as it is
		}
	case o.local != "":
		return p.localRoot(o.local)
	case o.image != nil:
		if root := p.imageRoot(o.image, "", name, o.place); root != graph.None {
			return root
		}
	}
	return p.emptyRoot()
}

// imageRoot returns the vertex of an image, graph.None where it has no layers.
func (p *planner) imageRoot(i *image, stage, name string, at place) graph.ID {
	b := i.base
	if len(b.Config.RootFS.DiffIDs) == 0 {
		return graph.None
	}
	key := rootKey{b.Ref, b.Digest}
	if id, ok := p.roots[key]; ok {
		return id
	}
	text := "FROM " + b.Ref
	if b.Digest != "" && !strings.Contains(b.Ref, "@") {
		text += "@" + b.Digest.String()
	}
	id := p.graph.Add(&graph.Vertex{
		Op:    &graph.Image{Ref: b.Ref, Digest: b.Digest, Platform: i.platform(), DiffIDs: b.Config.RootFS.DiffIDs},
		Stage: stage,
		Name:  name + text,
		Text:  text,
		Pos:   p.at(at.line),
	})
	p.roots[key] = id
	return id
}

// localRoot returns the vertex of a local directory.
func (p *planner) localRoot(name string) graph.ID {
	if id, ok := p.locals[name]; ok {
		return id
	}
	text := "load build context"
	if name != mainContext {
		text = "load context " + name
	}
	id := p.graph.Add(&graph.Vertex{
		Op:   &graph.Local{Name: name},
		Name: "[internal] " + text,
		Text: text,
	})
	p.locals[name] = id
	return id
}

// emptyRoot returns the vertex of a file system without files, for a COPY that
// has to copy from one.
func (p *planner) emptyRoot() graph.ID {
	if p.empty == graph.None {
		p.empty = p.graph.Add(&graph.Vertex{
			Op:   &graph.File{Scratch: true},
			Name: "[internal] FROM scratch",
			Text: "FROM scratch",
		})
	}
	return p.empty
}

// mainContext is the name of the build context's directory in the graph.
const mainContext = "context"

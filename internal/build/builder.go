package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"stagecraft/internal/cache"
	"stagecraft/internal/dockerfile"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/solve"
)

// DefaultJobs is how many steps run at once when nothing else is said. Steps
// often wait for a network or a disk, so there are some even on few cores.
var DefaultJobs = max(4, runtime.NumCPU())

// Builder builds images into one store.
type Builder struct {
	Store   *cache.Store
	Sandbox sandbox.Driver
	Config  *image.Config // mirrors and registries
}

// Build makes the image that the request asks for.
func (b *Builder) Build(ctx context.Context, req Request) (*Result, error) {
	if err := checkOutputs(req.Outputs); err != nil {
		return nil, err
	}
	tags, err := parseTags(req.Tags)
	if err != nil {
		return nil, err
	}
	report := newReporter(req.Observe)
	s, err := b.open(ctx, req, report)
	if err != nil {
		return nil, err
	}
	defer s.close()
	target, err := s.solve(ctx, req.jobs())
	if err != nil {
		return nil, err
	}
	e := &exporter{session: s, target: target, tags: tags}
	result, err := e.export(ctx, req.Outputs)
	if err != nil {
		return nil, err
	}
	result.Summary = s.summary(target)
	return result, nil
}

// Plan says what a build of the request would consist of.
func (b *Builder) Plan(ctx context.Context, req Request) (*plan.Plan, error) {
	s, err := b.open(ctx, req, newReporter(nil))
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.plan, nil
}

func (r *Request) jobs() int {
	if r.Jobs > 0 {
		return r.Jobs
	}
	return DefaultJobs
}

// session is one build: its plan and what it has open.
type session struct {
	*Builder
	dockerfile string // its path
	plan       *plan.Plan
	inputs     *inputs
	images     *images
	report     *reporter
	manifests  manifests
	values     values // of the vertices that were looked up or run
}

// open reads the Dockerfile and plans; nothing is built yet.
func (b *Builder) open(ctx context.Context, req Request, report *reporter) (*session, error) {
	platform, err := parsePlatform(req.Platform)
	if err != nil {
		return nil, err
	}
	path, src, err := readDockerfile(req.ContextDir, req.Dockerfile)
	if err != nil {
		return nil, err
	}
	file, err := dockerfile.Parse(filepath.Base(path), src)
	if err != nil {
		return nil, AsFailure(err)
	}
	in, err := b.openInputs(req, path)
	if err != nil {
		return nil, err
	}
	imgs := b.newImages(req)
	p, err := plan.New(ctx, file, plan.Options{
		Target: req.Target, BuildArgs: req.BuildArgs, Labels: req.Labels,
		Platform: platform, Contexts: in.named, NoCache: req.NoCache,
	}, imgs)
	if err != nil {
		in.close()
		return nil, AsFailure(err)
	}
	for _, w := range p.Warnings {
		report.notice("warning: " + strings.TrimPrefix(w.Pos.String()+": ", ": ") + w.Text)
	}
	return &session{Builder: b, dockerfile: path, plan: p, inputs: in, images: imgs, report: report}, nil
}

func (s *session) close() { s.inputs.close() }

// solve runs what the target needs and returns its root file system.
func (s *session) solve(ctx context.Context, jobs int) (*value, error) {
	if err := checkUser(); err != nil {
		return nil, err
	}
	r := newRunner(s)
	results, err := solve.Solve(ctx, s.plan.Graph, r, solve.Options{Jobs: jobs, Observe: s.report.step}, s.plan.Target)
	s.inputs.saveHashes()
	if err != nil {
		return nil, s.stepFailure(ctx, err)
	}
	if results[0] == nil {
		return &value{}, nil
	}
	return results[0], nil
}

// readDockerfile returns the Dockerfile's path and bytes.
func readDockerfile(dir, path string) (string, []byte, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("not a directory")
		}
		return "", nil, &Failure{Kind: BadInput, Where: "build context " + dir, Err: unwrapPath(err),
			Hint: "give the directory that holds the sources, often '.'"}
	}
	if path == "" {
		path = filepath.Join(dir, "Dockerfile")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", nil, &Failure{Kind: BadInput, Where: path, Err: unwrapPath(err),
			Hint: "name the Dockerfile with -f, or write one"}
	}
	return path, b, nil
}

func parsePlatform(s string) (oci.Platform, error) {
	host := oci.HostPlatform()
	if s == "" {
		return host, nil
	}
	p, err := oci.ParsePlatform(s)
	if err != nil {
		return p, &Failure{Kind: BadInput, Where: "--platform=" + s, Err: err, Hint: "write it like linux/amd64"}
	}
	if oci.FormatPlatform(p) != oci.FormatPlatform(host) {
		return p, &Failure{Kind: BadInput, Where: "--platform=" + s,
			Err:  errors.New("building for another platform is not supported yet"),
			Hint: "leave it out to build for " + oci.FormatPlatform(host)}
	}
	return p, nil
}

func parseTags(tags []string) ([]oci.Reference, error) {
	var refs []oci.Reference
	for _, t := range tags {
		ref, err := oci.ParseReference(t)
		if err == nil && ref.Digest() != "" {
			err = errors.New("a tag cannot have a digest")
		}
		if err != nil {
			return nil, &Failure{Kind: BadInput, Where: "--tag " + t, Err: err, Hint: "write it like name:tag, in lower case"}
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

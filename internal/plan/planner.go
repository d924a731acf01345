package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/util/suggest"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// planner is the state of one [New].
type planner struct {
	file     *dockerfile.File
	o        Options
	asked    bool // for a platform, rather than for the host's
	expand   *expander
	global   *variables         // what FROM lines see
	contexts map[string]Context // by contextName
	proxy    []string           // of predefined proxy build args, for every RUN
	declared map[string]bool    // names of the ARGs that were seen
	lint     *linter.Linter
	searches int // for names near an undefined one
	warnings []Warning

	stages []*stage
	names  map[string]int // stage name -> the last stage of that name
	images map[imageKey]*image

	graph  *graph.Graph
	locals map[string]graph.ID
	roots  map[rootKey]graph.ID // images that are vertices
	empty  graph.ID             // a file system without files, graph.None until one is asked for
}

func newPlanner(file *dockerfile.File, o Options) (*planner, error) {
	if o.Host.OS == "" {
		o.Host = oci.HostPlatform()
	}
	asked := o.Platform.OS != ""
	if !asked {
		o.Platform = o.Host
	}
	if !oci.MatchPlatform(o.Host, o.Platform) {
		return nil, &dockerfile.Error{
			File:    file.Name,
			Problem: fmt.Sprintf("building for %s on %s is not supported yet", oci.FormatPlatform(o.Platform), oci.FormatPlatform(o.Host)),
		}
	}
	p := &planner{
		file:     file,
		o:        o,
		asked:    asked,
		expand:   newExpander(file.Escape),
		contexts: make(map[string]Context, len(o.Contexts)),
		proxy:    proxyOf(o.BuildArgs),
		declared: make(map[string]bool),
		names:    make(map[string]int, len(file.Stages)),
		images:   make(map[imageKey]*image),
		graph:    new(graph.Graph),
		locals:   make(map[string]graph.ID),
		roots:    make(map[rootKey]graph.ID),
		empty:    graph.None,
	}
	for name, c := range o.Contexts {
		p.contexts[contextName(name)] = c
	}
	p.lint = file.Linter(p.warn)
	for _, w := range file.Warnings {
		p.warn(w)
	}
	return p, p.metaArgs()
}

func (p *planner) warn(w dockerfile.Warning) {
	p.warnings = append(p.warnings, Warning{p.at(w.Line), w.Text})
}

func (p *planner) at(line int) graph.Position {
	return graph.Position{File: p.file.Name, Line: line}
}

// metaArgs fills the scope of FROM lines: the platform args, then the ARGs
// above the first FROM.
func (p *planner) metaArgs() error {
	target := p.o.Target
	if target == "" {
		target = p.file.Stages[len(p.file.Stages)-1].Name
	}
	p.global = platformArgs(p.o, target)
	for _, c := range p.file.MetaArgs {
		for _, a := range c.Args {
			p.declared[a.Key] = true
			if v, ok := p.o.BuildArgs[a.Key]; ok {
				p.global.set(a.Key, v)
			} else if a.Value != nil {
				v, err := p.expand.word(*a.Value, p.global)
				if err != nil {
					return p.fail(&c, err)
				}
				p.global.set(a.Key, v)
			}
		}
	}
	return nil
}

// findTarget returns the stage to build.
func (p *planner) findTarget() (*stage, error) {
	want := p.o.Target
	if want == "" {
		return p.stages[len(p.stages)-1], nil
	}
	if i, ok := p.names[strings.ToLower(want)]; ok {
		return p.stages[i], nil
	}
	if i, err := strconv.Atoi(want); err == nil && i >= 0 && i < len(p.stages) {
		return p.stages[i], nil
	}
	e := &dockerfile.Error{File: p.file.Name, Problem: fmt.Sprintf("there is no stage %q to build", want)}
	if near, ok := suggest.Search(want, p.stageNames(), false); ok {
		e.Hint = fmt.Sprintf("did you mean %s? ", near)
	}
	e.Hint += "the stages are: " + strings.Join(p.labels(), ", ")
	return nil, e
}

// stageNames lists the names of stages, in the order of the file.
func (p *planner) stageNames() []string {
	var names []string
	for _, s := range p.stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// maxLabels is how many stages a message lists.
const maxLabels = 20

func (p *planner) labels() []string {
	var labels []string
	for i, s := range p.stages {
		if i == maxLabels {
			return append(labels, fmt.Sprintf("and %d more", len(p.stages)-i))
		}
		labels = append(labels, s.Label())
	}
	return labels
}

// need marks what the target needs. References point upwards in the file, so
// one pass from the bottom is enough.
func (p *planner) need(target *stage) error {
	target.Needed, target.Target, target.asRoot = true, true, true
	target.Reason = "it is the target"
	for _, s := range slices.Backward(p.stages) {
		if !s.Needed {
			s.Reason = "nothing the target needs copies from it or builds on it"
			continue
		}
		for _, i := range s.DependsOn {
			d := p.stages[i]
			d.asRoot = d.asRoot || i == s.parent
			if d.Needed {
				continue
			}
			d.Needed = true
			if d.Reason = fmt.Sprintf("stage %s copies from it", s.Label()); i == s.parent {
				d.Reason = fmt.Sprintf("stage %s builds on it", s.Label())
			}
		}
	}
	for _, s := range p.stages {
		if s.Needed && s.err != nil {
			return s.err
		}
	}
	return nil
}

// finish gathers the plan.
func (p *planner) finish(target *stage) (*Plan, error) {
	b := target.built
	plan := &Plan{
		Graph:  p.graph,
		Target: b.root,
		Config: b.image,
		Base:   b.base,
	}
	plan.Config.Platform = p.platformOf(b.image.Platform)
	c := &plan.Config.Config
	c.Env = b.lasting.lend()
	c.Labels, c.ExposedPorts, c.Volumes = maps.Clone(c.Labels), maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes)
	var chain []*stageBuilder
	for ; b != nil; b = b.parent {
		chain = append(chain, b)
	}
	for _, b := range slices.Backward(chain) {
		plan.History = append(plan.History, b.history...)
		b.sets.addTo(c)
	}
	given := sets{labels: p.o.Labels}
	given.addTo(c)
	for _, s := range p.stages {
		plan.Stages = append(plan.Stages, s.Stage)
	}
	if p.file.Strict && len(p.warnings) > 0 {
		first := p.warnings[0]
		return nil, &dockerfile.Error{
			File:    p.file.Name,
			Line:    first.Pos.Line,
			Problem: first.Text,
			Hint:    `the Dockerfile makes warnings errors, with "# check=error=true"`,
		}
	}
	if unused := p.unusedArgs(); len(unused) > 0 {
		p.warn(dockerfile.Warning{Text: fmt.Sprintf("[Warning] One or more build-args %v were not consumed", unused)})
	}
	plan.Warnings = p.warnings
	return plan, nil
}

// platformOf is what the config says it is for: what the base image claims,
// but for what the caller asked for by name.
func (p *planner) platformOf(base oci.Platform) oci.Platform {
	if !p.asked {
		return platforms.Normalize(base)
	}
	want, same := p.o.Platform, p.o.Platform.OS == base.OS && p.o.Platform.Architecture == base.Architecture
	base.OS, base.Architecture = want.OS, want.Architecture
	if want.Variant != "" || !same {
		base.Variant = want.Variant
	}
	if want.OSVersion != "" || !same {
		base.OSVersion = want.OSVersion
	}
	if want.OSFeatures != nil {
		base.OSFeatures = slices.Clone(want.OSFeatures)
	}
	return platforms.Normalize(base)
}

// unusedArgs lists build args that no ARG of the file's needed part takes.
func (p *planner) unusedArgs() []string {
	var unused []string
	for name := range p.o.BuildArgs {
		if !p.declared[name] && !predefinedArg(name) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}

// fail makes an error about a command out of its cause.
func (p *planner) fail(c instructions.Command, cause error) *dockerfile.Error {
	e := p.refusef(c, "%v", cause)
	e.Err = cause
	return e
}

// refusef returns an error about a command.
func (p *planner) refusef(c instructions.Command, format string, args ...any) *dockerfile.Error {
	return p.file.Errorf(dockerfile.Line(c.Location()), source(c), format, args...)
}

// source returns a command as written, continuation lines joined.
func source(c instructions.Command) string {
	if s, ok := c.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.ToUpper(c.Name())
}

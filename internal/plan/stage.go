package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/util/suggest"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// Label is how messages call the stage: its name, or its index.
func (s *Stage) Label() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.Index)
}

// stage is a [Stage] while it is planned.
type stage struct {
	Stage
	src    *instructions.Stage
	parent int             // index of the stage it is built on, -1 for none
	from   *origin         // else what it is built on; nil for scratch
	copies map[int]*origin // what its COPY --from name, by the command's index
	err    error           // the first thing that bars it from being built here; matters only where it is needed
	built  *stageBuilder   // set once it was built

	replaced bool // by a named context
	asRoot   bool // it is the target, or a needed stage builds on it
}

// bar keeps the first reason for which a stage cannot be built.
func (s *stage) bar(err error) {
	if s.err == nil {
		s.err = err
	}
}

// place is the stage's FROM.
func (s *stage) place() place { return place{s.Pos.Line, s.src.SourceCode} }

func (p *planner) failFrom(s *stage, format string, args ...any) *dockerfile.Error {
	return p.file.Errorf(s.Pos.Line, s.src.SourceCode, format, args...)
}

// link finds what every stage refers to. It looks at all stages, so that the
// plan can show them: a name that can mean nothing is an error in each, as it
// is for docker. What only bars a stage from being built is kept with it.
func (p *planner) link() error {
	p.stages = make([]*stage, len(p.file.Stages))
	for i := range p.file.Stages {
		src := &p.file.Stages[i]
		p.stages[i] = &stage{
			Stage: Stage{
				Index: i,
				Name:  src.Name,
				From:  src.BaseName,
				Pos:   p.at(dockerfile.Line(src.Location)),
				Root:  graph.None,
			},
			src:    src,
			parent: -1,
			copies: make(map[int]*origin),
		}
		if src.Name != "" {
			if _, ok := p.names[src.Name]; ok {
				lint := p.lint.WithMergedConfigFromComments(src.Comments)
				lint.Run(&linter.RuleDuplicateStageName, src.Location, linter.RuleDuplicateStageName.Format(src.Name))
			}
			p.names[src.Name] = i
		}
	}
	above := make(map[string]int, len(p.stages)) // the names that a stage may refer to
	for _, s := range p.stages {
		if err := p.linkStage(s, above); err != nil {
			return err
		}
		slices.Sort(s.DependsOn)
		s.DependsOn = slices.Compact(s.DependsOn)
		if s.Name != "" {
			above[s.Name] = s.Index
		}
	}
	return nil
}

func (p *planner) linkStage(s *stage, above map[string]int) error {
	if s.Name != "" && s.Name != "scratch" && s.Name != "context" {
		if c, ok := p.contexts[contextName(s.Name)]; ok {
			s.from = p.contextOrigin(s.Name, c, p.o.Platform, s.place())
			s.From, s.replaced = "context "+s.Name, true
			s.src = &instructions.Stage{Name: s.Name, SourceCode: s.src.SourceCode, Location: s.src.Location}
			return nil
		}
	}
	name, err := p.expand.word(s.src.BaseName, p.global)
	if err != nil {
		return p.failFrom(s, "%v", err)
	}
	if name == "" {
		e := p.failFrom(s, "the base name %s is empty", s.src.BaseName)
		e.Hint = "an ARG for FROM stands above the first FROM and has a default, or is given with --build-arg"
		return e
	}
	s.From = name
	if err := p.linkBase(s, name, above); err != nil {
		return err
	}
	for i, c := range s.src.Commands {
		if c, ok := c.(*instructions.CopyCommand); ok && c.From != "" {
			o, err := p.copyOrigin(s, c, above)
			if err != nil {
				return err
			}
			s.copies[i] = o
			if o.stage >= 0 {
				s.DependsOn = append(s.DependsOn, o.stage)
			}
		}
	}
	return nil
}

// linkBase resolves the name that a FROM gives.
func (p *planner) linkBase(s *stage, name string, above map[string]int) error {
	platform, err := p.stagePlatform(s)
	if err != nil {
		return err
	}
	if i, ok := above[strings.ToLower(name)]; ok {
		s.parent = i
		s.DependsOn = append(s.DependsOn, i)
		return nil
	}
	if name == "scratch" {
		return nil
	}
	o, err := p.imageOrigin(name, platform, s.place())
	if err != nil {
		e := p.failFrom(s, "%v", err)
		e.Hint = p.suggestStage(name)
		return e
	}
	s.from = o
	return nil
}

// stagePlatform reads --platform. What it names must run here where the stage
// is needed.
func (p *planner) stagePlatform(s *stage) (oci.Platform, error) {
	if s.src.Platform == "" {
		return p.o.Platform, nil
	}
	text, err := p.expand.word(s.src.Platform, p.global)
	if err != nil {
		return oci.Platform{}, p.failFrom(s, "%v", err)
	}
	if text == "" {
		e := p.failFrom(s, "the platform %s is empty", s.src.Platform)
		e.Hint = "BUILDPLATFORM and TARGETPLATFORM are always set; another ARG stands above the first FROM and has a default"
		return oci.Platform{}, e
	}
	want, err := oci.ParsePlatform(text)
	if err != nil {
		return oci.Platform{}, p.failFrom(s, "--platform=%s: %v", text, err)
	}
	if !oci.MatchPlatform(p.o.Host, want) {
		e := p.failFrom(s, "--platform=%s on %s is not supported yet", text, oci.FormatPlatform(p.o.Host))
		e.Hint = "build on a machine of that platform"
		s.bar(e)
	}
	return want, nil
}

// copyOrigin resolves the name that a COPY --from gives.
func (p *planner) copyOrigin(s *stage, c *instructions.CopyCommand, above map[string]int) (*origin, error) {
	name := c.From
	if strings.ContainsAny(name, "$") {
		e := p.refusef(c, "--from does not expand variables")
		e.Hint = "give it a stage of its own: FROM " + name + " AS name, above"
		return nil, e
	}
	i, isStage := above[strings.ToLower(name)]
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= len(p.stages) {
			e := p.refusef(c, "there is no stage %d", n)
			e.Hint = fmt.Sprintf("stages are counted from 0 to %d", len(p.stages)-1)
			return nil, e
		}
		i, isStage = n, true
	} else if !isStage {
		i, isStage = p.names[strings.ToLower(name)]
	}
	switch {
	case isStage && i == s.Index:
		e := p.refusef(c, "stage %s cannot copy from itself", s.Label())
		e.Hint = "name the stage that has the files; an image of the same name needs its tag, such as " + name + ":latest"
		return nil, e
	case isStage && i > s.Index:
		e := p.refusef(c, "stage %s is defined below, at line %d", p.stages[i].Label(), p.stages[i].Pos.Line)
		e.Hint = fmt.Sprintf("move stage %s above stage %s", p.stages[i].Label(), s.Label())
		s.bar(e)
		return &origin{stage: -1}, nil
	case isStage:
		return &origin{stage: i}, nil
	case name == "scratch":
		return &origin{stage: -1}, nil
	}
	o, err := p.imageOrigin(name, p.o.Platform, place{dockerfile.Line(c.Location()), source(c)})
	if err != nil {
		e := p.refusef(c, "there is no stage %q, and it is no image name: %v", name, err)
		e.Hint = p.suggestStage(name)
		return nil, e
	}
	o.copied = true
	return o, nil
}

// suggestStage offers the stage whose name is nearest to name.
func (p *planner) suggestStage(name string) string {
	near, ok := suggest.Search(name, p.stageNames(), false)
	if !ok {
		return ""
	}
	return fmt.Sprintf("did you mean stage %s?", near)
}

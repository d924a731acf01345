package plan

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/util/suggest"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// defaultPath is PATH where the base image sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// stageBuilder turns the instructions of one stage into vertices, a config and
// history. It starts as a copy of what the stage is built on.
type stageBuilder struct {
	*planner
	stage  *stage
	parent *stageBuilder // of the stage it is built on; nil for an image or scratch
	base   *Base         // at the bottom of the chain; nil for scratch

	root    graph.ID   // what the next step runs over
	image   oci.Image  // without Env and sets; its maps are the base image's, never written
	env     *variables // what RUN and expansion see: ENV and ARG
	lasting *variables // what the image keeps: ENV alone
	args    *variables // the ARGs declared so far, for the text of RUN
	hidden  []string   // ENVs that an ARG of this stage stands over in env
	history []HistoryItem
	sets    sets

	steps, total int // numbers of "[build 2/5]"
	workdir      bool
	last         map[string]instructions.Command // what a later one overrides: CMD, ENTRYPOINT, HEALTHCHECK
}

// build builds a stage whose references are built.
func (p *planner) build(s *stage) error {
	b := &stageBuilder{planner: p, stage: s, root: graph.None, args: new(variables), last: make(map[string]instructions.Command)}
	s.built = b
	b.count()
	if err := b.start(); err != nil {
		return err
	}
	for i, c := range s.src.Commands {
		if err := b.add(i, c); err != nil {
			return err
		}
		copied := b.env.takeCopied() + b.lasting.takeCopied() + b.args.takeCopied()
		if err := b.expand.spend(copied * variableCost); err != nil {
			return b.fail(c, err)
		}
	}
	s.Root = b.root
	return nil
}

// count finds how many steps the stage has: its FROM where that names
// something to fetch, and what touches the file system.
func (b *stageBuilder) count() {
	if b.stage.from != nil {
		b.total++
	}
	for _, c := range b.stage.src.Commands {
		switch c.(type) {
		case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
			b.total++
		}
	}
}

// start takes over what the stage is built on.
func (b *stageBuilder) start() error {
	s := b.stage
	if s.parent >= 0 {
		b.inherit(b.stages[s.parent].built)
		return nil
	}
	b.image.Platform = b.o.Platform
	if !s.replaced {
		b.image.Config.WorkingDir = "/"
	}
	if o := s.from; o != nil && o.image != nil {
		s.Base = o.image.base
		b.base = s.Base
		if err := b.refuseTriggers(s); err != nil {
			return err
		}
		b.root = b.imageRoot(o.image, s.Label(), b.prefix(), o.place)
		b.takeImage(o.image)
	} else if o != nil && (s.asRoot || b.total > 1) {
		b.copyContext(o) // else nothing needs it as a layer, see rootOf
	}
	b.lasting = variablesOf(b.image.Config.Env)
	if !s.replaced {
		b.setPath()
	}
	b.lasting, b.env = b.lasting.fork(), b.lasting.fork()
	return nil
}

// setPath gives the image a PATH where it has none. A stage that a context
// replaces stays what the context is until another builds on it.
func (b *stageBuilder) setPath() {
	if _, ok := b.lasting.get("PATH"); !ok {
		b.lasting.set("PATH", defaultPath)
	}
}

// inherit makes b a copy of a stage that is built. Its ENVs come back from
// below the ARGs that stood over them.
func (b *stageBuilder) inherit(from *stageBuilder) {
	b.parent, b.base, b.root = from, from.base, from.root
	b.workdir = from.workdir
	b.image = from.image
	b.env, b.lasting, b.args = from.env.fork(), from.lasting.fork(), from.args.fork()
	if from.stage.replaced {
		b.setPath()
		b.env = b.lasting.fork()
	}
	for _, name := range from.hidden {
		value, _ := b.lasting.get(name)
		b.env.set(name, value)
	}
}

// takeImage makes the config that of a base image, less what is of its file
// alone.
func (b *stageBuilder) takeImage(from *image) {
	platform := from.platform()
	b.image = from.base.Config
	b.image.Platform = platform
	b.image.RootFS, b.image.History, b.image.Created = oci.RootFS{}, nil, nil
	if dir := b.image.Config.WorkingDir; dir != "" {
		b.image.Config.WorkingDir = workdir("/", dir)
	}
	if want := from.ask; want.OS != platform.OS || want.Architecture != platform.Architecture {
		b.findAt(b.stage.src.Location, b.stage.src.Comments, &linter.RuleInvalidBaseImagePlatform,
			linter.RuleInvalidBaseImagePlatform.Format(b.stage.From, oci.FormatPlatform(want), oci.FormatPlatform(platform)))
	}
}

// copyContext makes a local directory the stage's file system, for a stage
// that a named context replaces.
func (b *stageBuilder) copyContext(o *origin) {
	text := "FROM " + b.stage.From
	b.root = b.graph.Add(&graph.Vertex{
		Op: &graph.File{
			Scratch: true,
			Actions: []graph.Action{&graph.Copy{Sources: []string{"."}, Dest: "/"}},
		},
		Inputs:  []graph.ID{b.localRoot(o.local)},
		Stage:   b.stage.Label(),
		Name:    b.prefix() + text,
		Text:    text,
		Pos:     b.stage.Pos,
		NoCache: b.o.NoCache,
	})
	b.commit(text, b.root)
}

// prefix numbers the next step: "[build 2/5] ". A file with one stage does
// without its name.
func (b *stageBuilder) prefix() string {
	b.steps++
	name := ""
	if len(b.stages) > 1 {
		name = b.stage.Name
		if name == "" {
			name = fmt.Sprintf("stage-%d", b.stage.Index)
		}
		name += " "
	}
	width := 1 + int(math.Log10(float64(b.total)))
	return fmt.Sprintf("[%s%*d/%d] ", name, width, b.steps, b.total)
}

// addStep adds a vertex for a command and makes it the stage's root. more is
// shown after the command.
func (b *stageBuilder) addStep(c instructions.Command, op graph.Op, inputs []graph.ID, more string) {
	name := b.expand.show(upper(source(c))+more, b.env)
	b.root = b.graph.Add(&graph.Vertex{
		Op:      op,
		Inputs:  inputs,
		Stage:   b.stage.Label(),
		Name:    b.prefix() + name,
		Text:    upper(source(c)),
		Pos:     b.at(dockerfile.Line(c.Location())),
		NoCache: b.o.NoCache,
	})
}

// over returns the inputs of a step: the root, where there is one.
func (b *stageBuilder) over() []graph.ID {
	if b.root == graph.None {
		return nil
	}
	return []graph.ID{b.root}
}

func (b *stageBuilder) commit(text string, layer graph.ID) {
	b.history = append(b.history, HistoryItem{text, layer})
}

// word expands a word of a command.
func (b *stageBuilder) word(c instructions.Command, s string) (string, error) {
	v, unset, err := b.expand.matches(s, b.env)
	if err != nil {
		return "", b.fail(c, err)
	}
	b.undefined(c, unset)
	return v, nil
}

// wordsOf expands each of several words.
func (b *stageBuilder) wordsOf(c instructions.Command, words []string) ([]string, error) {
	expanded := make([]string, len(words))
	for i, w := range words {
		v, err := b.word(c, w)
		if err != nil {
			return nil, err
		}
		expanded[i] = v
	}
	return expanded, nil
}

// pairs expands the KEY=value pairs of ENV and LABEL.
func (b *stageBuilder) pairs(c instructions.Command, pairs instructions.KeyValuePairs) (instructions.KeyValuePairs, error) {
	expanded := slices.Clone(pairs)
	for i := range expanded {
		p := &expanded[i]
		if p.NoDelim {
			b.find(c, &linter.RuleLegacyKeyValueFormat, linter.RuleLegacyKeyValueFormat.Format(c.Name()))
		}
		var err error
		if p.Key, err = b.word(c, p.Key); err != nil {
			return nil, err
		}
		if p.Value, err = b.word(c, p.Value); err != nil {
			return nil, err
		}
	}
	return expanded, nil
}

// maxSearches is for how many undefined names of a plan a near one is looked
// for: more warnings than that nobody reads.
const maxSearches = 32

// variableCost is what copying a variable to another stage takes off the
// bounds of expansion, in bytes.
const variableCost = 64

// undefined warns of names that were expanded and have no value.
func (b *stageBuilder) undefined(c instructions.Command, names map[string]struct{}) {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if _, ok := b.args.get(name); ok {
			continue
		}
		near := ""
		if b.searches < maxSearches {
			b.searches++
			near, _ = suggest.Search(name, b.env.names(), true)
		}
		b.find(c, &linter.RuleUndefinedVar, linter.RuleUndefinedVar.Format(name, near))
	}
}

// overrides warns where a command makes an earlier one of its kind pointless.
func (b *stageBuilder) overrides(c instructions.Command) {
	kind := strings.ToLower(c.Name())
	if before := b.last[kind]; before != nil {
		b.find(before, &linter.RuleMultipleInstructionsDisallowed, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	b.last[kind] = c
}

// join makes a path absolute and clean, as WORKDIR does.
func join(dir, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join("/", dir, p)
}

// upper puts an instruction's first word in capitals.
func upper(s string) string {
	first, rest, ok := strings.Cut(s, " ")
	if !ok {
		return strings.ToUpper(s)
	}
	return strings.ToUpper(first) + " " + rest
}

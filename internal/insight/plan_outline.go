package insight

import (
	"sort"
	"strconv"
	"strings"
	"unicode"

	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
)

// outline is a plan seen as stages. Its JSON form is that of "stagecraft plan
// --format json"; fields may be added to it, but keep their meaning.
type outline struct {
	Target   string           `json:"target"`
	Platform string           `json:"platform"`
	Waves    [][]int          `json:"waves"` // stage indices; those of one wave may run side by side
	Stages   []outlineStage   `json:"stages"`
	Warnings []outlineWarning `json:"warnings,omitempty"`
}

type outlineStage struct {
	Index     int           `json:"index"`
	Name      string        `json:"name,omitempty"`
	From      string        `json:"from"`
	Image     string        `json:"image,omitempty"`  // as resolved
	Digest    oci.Digest    `json:"digest,omitempty"` // of Image
	Line      int           `json:"line"`
	Needed    bool          `json:"needed"`
	Target    bool          `json:"target,omitempty"`
	Wave      int           `json:"wave,omitempty"` // from 1; 0 where the stage is skipped
	Reason    string        `json:"reason"`
	DependsOn []int         `json:"dependsOn,omitempty"`
	Steps     []outlineStep `json:"steps,omitempty"` // what touches the file system
}

type outlineStep struct {
	ID     graph.ID   `json:"id"`
	Text   string     `json:"text"`
	Line   int        `json:"line"`
	Inputs []graph.ID `json:"inputs,omitempty"`
}

type outlineWarning struct {
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

func outlineOf(p *plan.Plan) *outline {
	o := &outline{Platform: oci.FormatPlatform(p.Config.Platform)}
	steps := stepsOf(p)
	for i := range p.Stages {
		s := &p.Stages[i]
		row := outlineStage{
			Index: s.Index, Name: s.Name, From: s.From, Line: s.Pos.Line,
			Needed: s.Needed, Target: s.Target, Reason: s.Reason, DependsOn: s.DependsOn,
		}
		if s.Target {
			o.Target = s.Label()
		}
		if s.Base != nil {
			row.Image, row.Digest = s.Base.Ref, s.Base.Digest
		}
		if s.Needed {
			row.Steps = steps[i]
			// Dependencies stand above, so their waves are known.
			for _, d := range s.DependsOn {
				row.Wave = max(row.Wave, o.Stages[d].Wave)
			}
			row.Wave++
			if row.Wave > len(o.Waves) {
				o.Waves = append(o.Waves, nil)
			}
			o.Waves[row.Wave-1] = append(o.Waves[row.Wave-1], i)
		}
		o.Stages = append(o.Stages, row)
	}
	for _, w := range p.Warnings {
		o.Warnings = append(o.Warnings, outlineWarning{w.Pos.Line, w.Text})
	}
	return o
}

// stepsOf lists the steps of each stage: the lines of a stage run from its
// FROM to the next. Names would not do, two stages may have the same.
func stepsOf(p *plan.Plan) [][]outlineStep {
	steps := make([][]outlineStep, len(p.Stages))
	for _, v := range p.Graph.Vertices {
		switch v.Op.(type) {
		case *graph.Exec, *graph.File:
			below := sort.Search(len(p.Stages), func(i int) bool { return p.Stages[i].Pos.Line > v.Pos.Line })
			if below > 0 {
				steps[below-1] = append(steps[below-1], outlineStep{v.ID, v.Text, v.Pos.Line, v.Inputs})
			}
		}
	}
	return steps
}

// label is how a stage is called: its name, or its index.
func (s *outlineStage) label() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.Index)
}

// buildsOn reports whether the stage's FROM names d; otherwise it copies.
func (s *outlineStage) buildsOn(d *outlineStage) bool {
	return d.Name != "" && strings.EqualFold(s.From, d.Name)
}

// onStage reports whether the stage's FROM names another stage.
func (o *outline) onStage(s *outlineStage) bool {
	for _, d := range s.DependsOn {
		if s.buildsOn(&o.Stages[d]) {
			return true
		}
	}
	return false
}

// printable drops what a terminal might act upon: names come from the file.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

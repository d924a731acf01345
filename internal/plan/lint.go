package plan

import (
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// find reports a finding about a command, unless a "# check=" above it or at
// the top of the file silences the rule.
func (p *planner) find(c instructions.Command, rule linter.LinterRuleI, text string) {
	p.findAt(c.Location(), c.Comments(), rule, text)
}

func (p *planner) findAt(at []parser.Range, comments []string, rule linter.LinterRuleI, text string) {
	p.lint.WithMergedConfigFromComments(comments).Run(rule, at, text)
}

package dockerfile

import (
	"bytes"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// File is a Dockerfile that was read. It is not to be changed: instructions
// are expanded into copies, never in place.
type File struct {
	Name     string // as messages show it: "Dockerfile"
	Stages   []instructions.Stage
	MetaArgs []instructions.ArgCommand // the ARGs above the first FROM
	Escape   rune                      // '\\' or '`'
	Syntax   string                    // the frontend that "# syntax=" names, "" where there is none
	Strict   bool                      // "# check=error=true": a warning is to fail the build
	Warnings []Warning                 // in the order of the file

	lint linter.Config // of "# check="
}

// Warning is one finding of the linter.
type Warning struct {
	Line int    // from 1; 0 where no line is to blame
	Rule string // e.g. "StageNameCasing"
	Text string
	URL  string // what the rule is about; may be empty
}

// Parse reads a Dockerfile; name is how messages call it. Errors are *[Error].
// A file without instructions, or without a stage, is an error.
func Parse(name string, src []byte) (*File, error) {
	f := &File{Name: name}
	if err := f.guard(src); err != nil {
		return nil, err
	}
	if err := f.readDirectives(src); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, f.asError(err, src)
	}
	f.Escape = tree.EscapeToken
	lint := f.Linter(func(w Warning) { f.Warnings = append(f.Warnings, w) })
	for _, w := range tree.Warnings {
		lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
	}
	if f.Stages, f.MetaArgs, err = instructions.Parse(tree.AST, lint); err != nil {
		return nil, f.asError(err, src)
	}
	if len(f.Stages) == 0 {
		e := f.Errorf(max(1, tree.AST.EndLine), "", "there is no stage")
		e.Hint = "add a FROM instruction"
		return nil, e
	}
	return f, nil
}

// Linter returns a linter that honours the file's "# check=" directive and
// tells found of every finding.
func (f *File) Linter(found func(Warning)) *linter.Linter {
	c := f.lint
	c.Warn = func(rule, _, url, text string, location []parser.Range) {
		found(Warning{Line: Line(location), Rule: rule, Text: text, URL: url})
	}
	return linter.New(&c)
}

// readDirectives reads the comments above the first instruction that mean
// something. It is strict where the parser, which reads them too, would not
// know the line.
func (f *File) readDirectives(src []byte) error {
	var p parser.DirectiveParser
	bare := bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	found, err := p.ParseAll(bare)
	if err != nil {
		return f.Errorf(len(found)+1, sourceLine(bare, len(found)+1), "%v", err)
	}
	for _, d := range found {
		line := Line(d.Location)
		switch {
		case d.Name == "escape" && d.Value != "`" && d.Value != `\`:
			return f.Errorf(line, sourceLine(bare, line), "the escape character must be \\ or `, not %q", d.Value)
		case d.Name == "check":
			c, err := linter.ParseLintOptions(d.Value)
			if err != nil {
				return f.Errorf(line, sourceLine(bare, line), "%v", err)
			}
			f.lint, f.Strict = *c, c.ReturnAsError
		}
	}
	syntax, _, location, ok := parser.DetectSyntax(src)
	if !ok {
		return nil
	}
	f.Syntax = syntax
	ref, err := reference.ParseNormalizedNamed(syntax)
	if err == nil && strings.HasPrefix(ref.Name(), "docker.io/docker/dockerfile") {
		return nil
	}
	e := f.Errorf(max(1, Line(location)), sourceLine(src, Line(location)), "the Dockerfile frontend %s is not supported yet", syntax)
	e.Hint = "docker/dockerfile is the one that is built in"
	return e
}

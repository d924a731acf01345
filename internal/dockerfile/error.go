package dockerfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// maxInstruction is how much of an instruction an [Error] shows, in runes.
const maxInstruction = 72

// Error is what is wrong with a Dockerfile, for its author to read. It prints
// as one line, "Dockerfile:12 RUNN echo: unknown instruction RUNN"; the hint is
// for a line of its own.
type Error struct {
	File        string // as given to [Parse]
	Line        int    // from 1; 0 where no line is to blame
	Instruction string // as written, on one line, cut where it is long; may be empty
	Problem     string // what happened
	Hint        string // what to try, e.g. "did you mean RUN?"; may be empty
	Err         error  // the cause, where the problem came from elsewhere; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Instruction != "" {
		b.WriteString(" " + e.Instruction)
	}
	return b.String() + ": " + e.Problem
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an error about the instruction at line.
func (f *File) Errorf(line int, instruction, format string, args ...any) *Error {
	return &Error{File: f.Name, Line: line, Instruction: shorten(instruction), Problem: fmt.Sprintf(format, args...)}
}

// Line is the line of an instruction's first word, 0 where it is unknown.
func Line(location []parser.Range) int {
	if len(location) == 0 {
		return 0
	}
	return location[0].Start.Line
}

// asError turns what BuildKit's parser returned into an [Error].
func (f *File) asError(err error, src []byte) *Error {
	e := &Error{File: f.Name, Err: err}
	problem := err.Error()
	var at *parser.LocationError
	if errors.As(err, &at) {
		problem = at.Error()
		if len(at.Locations) > 0 {
			e.Line = max(1, Line(at.Locations[0]))
		}
	}
	e.Problem, e.Hint = splitHint(strings.Map(printable, problem))
	e.Instruction = shorten(sourceLine(src, e.Line))
	var unknown *instructions.UnknownInstructionError
	switch {
	case errors.As(err, &unknown):
		e.Problem = "unknown instruction " + unknown.Instruction
	case e.Problem == "no build stage in current context":
		e.Problem = "there is no stage yet"
		e.Hint = "start with FROM; only ARG may stand before it"
	case e.Problem == "unterminated heredoc":
		e.Problem = "unterminated heredoc: no line holds its end word alone"
	}
	return e
}

// splitHint parts BuildKit's "problem (did you mean X?)".
func splitHint(s string) (problem, hint string) {
	const mark = " (did you mean "
	i := strings.LastIndex(s, mark)
	if i < 0 || !strings.HasSuffix(s, "?)") {
		return s, ""
	}
	word := s[i+len(mark) : len(s)-len("?)")]
	if strings.HasPrefix(s, "unknown flag: ") {
		word = "--" + word
	}
	return s[:i], "did you mean " + word + "?"
}

// sourceLine returns line n of src, counted from 1.
func sourceLine(src []byte, n int) string {
	i := 1
	for line := range strings.Lines(string(src)) {
		if i == n {
			return line
		}
		i++
	}
	return ""
}

// shorten puts an instruction on one line of bounded length.
func shorten(s string) string {
	s = strings.Map(printable, strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " "))
	s = strings.TrimSuffix(strings.TrimSuffix(s, `\`), " ")
	if r := []rune(s); len(r) > maxInstruction {
		return string(r[:maxInstruction-3]) + "..."
	}
	return s
}

// printable replaces what a terminal might act upon.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

package insight

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

func (o *outline) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(o)
}

// text is for people:
//
//	target stage final for linux/amd64: 2 of 3 stages, 5 steps
//
//	wave 1
//	  build  from golang:1.26  4 steps
//	wave 2
//	  final  from scratch      1 step   copies from build
//
//	skipped
//	  stage test: nothing the target needs copies from it or builds on it
func (o *outline) text(w io.Writer) error {
	var b strings.Builder
	run, steps := 0, 0
	for _, s := range o.Stages {
		if s.Needed {
			run++
			steps += len(s.Steps)
		}
	}
	fmt.Fprintf(&b, "target stage %s for %s: %d of %s, %s\n",
		o.Target, o.Platform, run, count(len(o.Stages), "stage"), count(steps, "step"))
	for i, wave := range o.Waves {
		fmt.Fprintf(&b, "\nwave %d", i+1)
		if len(wave) > 1 {
			fmt.Fprintf(&b, " (%d stages side by side)", len(wave))
		}
		b.WriteString("\n")
		o.rows(&b, wave)
	}
	heading := "\nskipped\n"
	for i := range o.Stages {
		if s := &o.Stages[i]; !s.Needed {
			fmt.Fprintf(&b, "%s  stage %s: %s\n", heading, s.label(), s.Reason)
			heading = ""
		}
	}
	heading = "\nwarnings\n"
	for _, warning := range o.Warnings {
		fmt.Fprintf(&b, "%s  ", heading)
		if warning.Line > 0 {
			fmt.Fprintf(&b, "line %d: ", warning.Line)
		}
		b.WriteString(printable(warning.Text) + "\n")
		heading = ""
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// rows writes the stages of a wave in columns.
func (o *outline) rows(b *strings.Builder, wave []int) {
	var rows [][]string
	var widths [4]int
	for _, i := range wave {
		s := &o.Stages[i]
		row := []string{s.label(), "from " + printable(s.From), count(len(s.Steps), "step"), o.copies(s)}
		for c, cell := range row {
			widths[c] = max(widths[c], len([]rune(cell)))
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		line := ""
		for c, cell := range row {
			line += fmt.Sprintf("  %-*s", widths[c], cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// copies says which stages a stage copies from.
func (o *outline) copies(s *outlineStage) string {
	var from []string
	for _, d := range s.DependsOn {
		if d := &o.Stages[d]; !s.buildsOn(d) {
			from = append(from, d.label())
		}
	}
	if len(from) == 0 {
		return ""
	}
	return "copies from " + strings.Join(from, ", ")
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

package insight

import (
	"fmt"
	"io"
	"strings"
)

// dot draws the stages for Graphviz; what is skipped is grey and dashed.
func (o *outline) dot(w io.Writer) error {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var b strings.Builder
	b.WriteString("digraph plan {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n")
	images := o.images()
	for i, name := range images.names {
		fmt.Fprintf(&b, "  i%d [label=\"%s\", shape=plain];\n", i, quote.Replace(name))
	}
	for i := range o.Stages {
		s := &o.Stages[i]
		style := ""
		switch {
		case s.Target:
			style = `, style="rounded,bold"`
		case !s.Needed:
			style = `, style="rounded,dashed", color=gray, fontcolor=gray`
		}
		fmt.Fprintf(&b, "  s%d [label=\"%s\"%s];\n", s.Index, quote.Replace(s.label()), style)
	}
	for _, e := range o.edges(images) {
		style := ""
		if !e.needed {
			style = ", style=dashed, color=gray, fontcolor=gray"
		}
		fmt.Fprintf(&b, "  %s -> %s [label=\"%s\"%s];\n", e.from, e.to, e.label, style)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaid draws the stages for Markdown.
func (o *outline) mermaid(w io.Writer) error {
	quote := strings.NewReplacer("#", "#35;", `"`, "#quot;")
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	images := o.images()
	for i, name := range images.names {
		fmt.Fprintf(&b, "  i%d([\"%s\"])\n", i, quote.Replace(name))
	}
	for i := range o.Stages {
		s := &o.Stages[i]
		fmt.Fprintf(&b, "  s%d[\"%s\"]\n", s.Index, quote.Replace(s.label()))
		switch {
		case s.Target:
			fmt.Fprintf(&b, "  style s%d stroke-width:3px\n", s.Index)
		case !s.Needed:
			fmt.Fprintf(&b, "  style s%d stroke-dasharray:4,color:gray\n", s.Index)
		}
	}
	for _, e := range o.edges(images) {
		arrow := "-->"
		if !e.needed {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "  %s %s|%s| %s\n", e.from, arrow, e.label, e.to)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// drawnImages are the names that FROM lines give and that are no stages.
type drawnImages struct {
	names []string
	index map[string]int
}

func (o *outline) images() drawnImages {
	d := drawnImages{index: make(map[string]int)}
	for i := range o.Stages {
		s := &o.Stages[i]
		name := printable(s.From)
		if _, ok := d.index[name]; ok || o.onStage(s) {
			continue
		}
		d.index[name] = len(d.names)
		d.names = append(d.names, name)
	}
	return d
}

// edge is an arrow from what is used to what uses it.
type edge struct {
	from, to, label string
	needed          bool
}

func (o *outline) edges(images drawnImages) []edge {
	var edges []edge
	for i := range o.Stages {
		s := &o.Stages[i]
		to := fmt.Sprintf("s%d", s.Index)
		if !o.onStage(s) {
			edges = append(edges, edge{fmt.Sprintf("i%d", images.index[printable(s.From)]), to, "FROM", s.Needed})
		}
		for _, d := range s.DependsOn {
			label := "COPY"
			if s.buildsOn(&o.Stages[d]) {
				label = "FROM"
			}
			edges = append(edges, edge{fmt.Sprintf("s%d", d), to, label, s.Needed})
		}
	}
	return edges
}

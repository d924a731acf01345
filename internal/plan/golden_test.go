package plan

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stagecraft/internal/graph"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// dump writes all of a plan as text, for goldens and comparisons.
func dump(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "stage %d %q from %q at %s needed=%t target=%t depends=%v root=%d base=%t: %s\n",
			s.Index, s.Name, s.From, s.Pos, s.Needed, s.Target, s.DependsOn, s.Root, s.Base != nil, s.Reason)
	}
	for _, v := range p.Graph.Vertices {
		fmt.Fprintf(&b, "vertex %d over %v stage %q at %s nocache=%t\n  name %s\n  text %s\n", v.ID, v.Inputs, v.Stage, v.Pos, v.NoCache, v.Name, v.Text)
		if f, ok := v.Op.(*graph.File); ok {
			fmt.Fprintf(&b, "  file scratch=%t\n", f.Scratch)
			for _, a := range f.Actions {
				if m, ok := a.(*graph.Mkfile); ok {
					fmt.Fprintf(&b, "  mkfile %s %s mode=%o owner=%q data=%q\n", m.Dest, m.Name, m.Mode, m.Owner, m.Data)
					continue
				}
				fmt.Fprintf(&b, "  %T %s\n", a, compact(a))
			}
			continue
		}
		fmt.Fprintf(&b, "  %T %s\n", v.Op, compact(v.Op))
	}
	fmt.Fprintf(&b, "target %d\nconfig %s\n", p.Target, compact(p.Config))
	if p.Base != nil {
		fmt.Fprintf(&b, "base %s\n", p.Base.Ref)
	}
	for _, h := range p.History {
		fmt.Fprintf(&b, "history %d %s\n", h.Vertex, h.CreatedBy)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning %s: %s\n", w.Pos, w.Text)
	}
	return b.String()
}

func compact(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// goldenOptions are the options of a golden file that does not go by the zero
// value.
var goldenOptions = map[string]Options{
	"args":         {BuildArgs: map[string]string{"VERSION": "2.0", "http_proxy": "http://user:pw@proxy", "NOBODY": "x"}},
	"contexts":     {Contexts: map[string]Context{"docker.io/library/debian:12": {Image: "layout"}, "build": {Local: true}, "assets": {Local: true}}},
	"context-root": {Contexts: map[string]Context{"files": {Local: true}}},
	"replaced": {Target: "5", Contexts: map[string]Context{
		"overrides": {Local: true}, "base": {Image: "layout"}, "docker.io/library/golang:1.26": {Image: "nginx:1"}, "assets": {Local: true}, "alpine": {Local: true},
	}},
	"labels":   {Labels: map[string]string{"b": "from-flag", "c": "new"}, NoCache: true},
	"warnings": {Target: "1"},
	"skipped":  {Target: "BUILD"},
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files:", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".Dockerfile")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := dump(mustPlan(t, string(src), goldenOptions[name]))
			golden := strings.TrimSuffix(file, ".Dockerfile") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

package plan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
)

// FuzzNew plans whatever parses: the result is an error of the Dockerfile, or
// a plan that is whole, and the same plan again.
func FuzzNew(f *testing.F) {
	files, err := filepath.Glob("testdata/*.Dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, "")
	}
	f.Add([]byte("ARG A=$A$A\nFROM debian:12 AS a\nENV B=${A//x/$A}\nEXPOSE 1-9 $B\nFROM a"), "a")
	f.Fuzz(func(t *testing.T, src []byte, target string) {
		file, err := dockerfile.Parse("F", src)
		if err != nil {
			return
		}
		o := Options{Host: amd64, Target: target, BuildArgs: map[string]string{"A": "value", "http_proxy": "p"}}
		p, err := New(t.Context(), file, o, new(registry))
		if err != nil {
			var e *dockerfile.Error
			if !errors.As(err, &e) || e.Problem == "" {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		whole(t, p)
		again, err := New(t.Context(), file, o, new(registry))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dump(p), dump(again)); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}

// whole checks what every plan promises.
func whole(t *testing.T, p *Plan) {
	t.Helper()
	for _, v := range p.Graph.Vertices {
		for _, in := range v.Inputs {
			if in < 0 || in >= v.ID {
				t.Errorf("vertex %d has input %d", v.ID, in)
			}
		}
		if f, ok := v.Op.(*graph.File); ok {
			for _, a := range f.Actions {
				if c, ok := a.(*graph.Copy); ok && (c.From < 0 || c.From >= len(v.Inputs)) {
					t.Errorf("vertex %d copies from input %d of %d", v.ID, c.From, len(v.Inputs))
				}
			}
			if f.Scratch && len(f.Actions) == 0 {
				continue
			}
		}
		if v.Name == "" || v.Text == "" {
			t.Errorf("vertex %d has no name", v.ID)
		}
	}
	if needed := len(p.Graph.Needed(p.Target)); p.Target != graph.None && needed == 0 {
		t.Error("the target needs nothing, not even itself")
	}
	targets := 0
	for _, s := range p.Stages {
		if s.Target {
			targets++
		}
		if s.Reason == "" {
			t.Errorf("stage %s has no reason", s.Label())
		}
		for _, d := range s.DependsOn {
			if s.Needed && (d >= s.Index || !p.Stages[d].Needed) {
				t.Errorf("stage %s depends on %d", s.Label(), d)
			}
		}
	}
	if targets != 1 {
		t.Errorf("%d targets", targets)
	}
}

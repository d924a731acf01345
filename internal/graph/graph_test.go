package graph

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeeded(t *testing.T) {
	g := &Graph{}
	a := g.Add(&Vertex{})
	b := g.Add(&Vertex{Inputs: []ID{a}})
	c := g.Add(&Vertex{})
	d := g.Add(&Vertex{Inputs: []ID{a, b}})
	for _, x := range []struct{ roots, want []ID }{
		{[]ID{d}, []ID{a, b, d}},
		{[]ID{b, c}, []ID{a, b, c}},
		{[]ID{None}, nil},
		{nil, nil},
	} {
		if diff := cmp.Diff(x.want, g.Needed(x.roots...)); diff != "" {
			t.Errorf("needed for %v: %s", x.roots, diff)
		}
	}
}

func TestAddRefusesWhatIsNotBelow(t *testing.T) {
	for _, in := range []ID{0, 1, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an input of %d to the first vertex was taken", in)
				}
			}()
			new(Graph).Add(&Vertex{Inputs: []ID{in}})
		}()
	}
}

func TestPosition(t *testing.T) {
	if s := (Position{File: "Dockerfile", Line: 3}).String(); s != "Dockerfile:3" {
		t.Error(s)
	}
	if s := (Position{File: "Dockerfile"}).String(); s != "Dockerfile" {
		t.Error(s)
	}
}

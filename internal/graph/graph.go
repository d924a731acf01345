package graph

import "fmt"

// ID is a vertex's index in its [Graph].
type ID int

// None stands where a vertex may be absent: the root of a stage built FROM
// scratch, a history line without a layer.
const None ID = -1

// Position is a place in a Dockerfile. Line counts from 1; 0 means unknown.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Vertex is one step: an op over the results of its inputs.
type Vertex struct {
	ID     ID
	Op     Op
	Inputs []ID // what Op's input indices refer to; every one is below ID

	Stage string   // the stage's name, or its index where it has none
	Name  string   // as progress shows it: "[build 2/5] RUN go build ./..."
	Text  string   // the instruction alone: "RUN go build ./..."
	Pos   Position // where the instruction stands

	NoCache bool // run even if a record exists
}

// Graph is a build as data. The zero value is empty and ready to use.
type Graph struct {
	Vertices []*Vertex
}

// Add appends v, gives it its ID and returns that. It panics on an input that
// is not in the graph yet: only a bug in a planner can do that.
func (g *Graph) Add(v *Vertex) ID {
	v.ID = ID(len(g.Vertices))
	for _, in := range v.Inputs {
		if in < 0 || in >= v.ID {
			panic(fmt.Sprintf("graph: vertex %d (%s) refers to input %d", v.ID, v.Name, in))
		}
	}
	g.Vertices = append(g.Vertices, v)
	return v.ID
}

// Vertex returns the vertex with that ID.
func (g *Graph) Vertex(id ID) *Vertex { return g.Vertices[id] }

// Needed returns the IDs that the given vertices need, themselves included, in
// topological order.
func (g *Graph) Needed(roots ...ID) []ID {
	need := make([]bool, len(g.Vertices))
	for _, r := range roots {
		if r != None {
			need[r] = true
		}
	}
	var ids []ID
	for i := len(g.Vertices) - 1; i >= 0; i-- {
		if !need[i] {
			continue
		}
		for _, in := range g.Vertices[i].Inputs {
			need[in] = true
		}
	}
	for i, n := range need {
		if n {
			ids = append(ids, ID(i))
		}
	}
	return ids
}

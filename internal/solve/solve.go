package solve

import (
	"context"
	"fmt"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// Result is what a vertex makes, known without its bytes.
type Result interface {
	// Content identifies what was made; equal content has equal ids, however
	// it came about.
	Content() oci.Digest
}

// Runner gives vertices their meaning. Its methods are called concurrently.
type Runner[R Result] interface {
	// Key lists what v's result depends on, given the results of its inputs.
	// It returns a *[NeedBytes] when an input's bytes are wanted for that.
	Key(ctx context.Context, v *graph.Vertex, in []R) (cache.Key, error)
	// Lookup returns what is recorded under key; false is a miss.
	Lookup(ctx context.Context, v *graph.Vertex, key cache.Key, in []R) (R, bool, error)
	// Ready reports whether the bytes that v itself adds to r are there, or
	// can be had without running a step.
	Ready(ctx context.Context, v *graph.Vertex, r R) bool
	// Parts lists the inputs, as indices, whose bytes are part of v's own.
	Parts(v *graph.Vertex) []int
	// Lock excludes other runs of the key, in this process and others.
	Lock(ctx context.Context, key cache.Key) (unlock func(), err error)
	// Run makes v's result and records it under key. The bytes of the inputs
	// are there.
	Run(ctx context.Context, v *graph.Vertex, key cache.Key, in []R) (R, error)
}

// NeedBytes is returned by a Runner's Key that cannot be computed without the
// bytes of an input: the solver gets them and asks again.
type NeedBytes struct{ Input int }

func (e *NeedBytes) Error() string { return fmt.Sprintf("the bytes of input %d are needed", e.Input) }

// State is how far a vertex has come. The zero value is Waiting.
type State int

// The states of a vertex. A vertex ends in Hit, Done, Failed, or where the
// failure of another one stopped it. A Hit whose bytes turn out to be gone is
// followed by Running.
const (
	Waiting State = iota // for its inputs
	Keyed                // its key is known
	Hit                  // its result came from a record
	Running              // it has a slot
	Done                 // it ran
	Failed
)

func (s State) String() string {
	return [...]string{"waiting", "keyed", "hit", "running", "done", "failed"}[s]
}

// Event says that a vertex changed its state.
type Event struct {
	Vertex *graph.Vertex
	State  State
	At     time.Time
	Err    error // of Failed
}

// Options are the settings of one solve; the zero value works.
type Options struct {
	Jobs    int         // runs at once; 0 or less means no bound
	Observe func(Event) // called in order for each vertex, concurrently for different ones
}

// StepError is the failure of one vertex.
type StepError struct {
	Vertex *graph.Vertex
	Err    error
}

func (e *StepError) Error() string { return e.Vertex.Name + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// Solve returns the results of the targets, bytes at hand, in their order. A
// target of graph.None has the zero result. The error is a *[StepError], or
// the cause with which ctx was ended.
func Solve[R Result](ctx context.Context, g *graph.Graph, r Runner[R], o Options, targets ...graph.ID) ([]R, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newSolver(ctx, cancel, g, r, o)
	defer s.running.Wait()
	for _, id := range g.Needed(targets...) {
		s.running.Go(func() { s.record(id) }) //nolint:errcheck // cancel has the first error
	}
	results := make([]R, len(targets))
	for i, id := range targets {
		if id == graph.None {
			continue
		}
		res, err := s.result(id)
		if err != nil {
			return nil, context.Cause(ctx)
		}
		results[i] = res
	}
	return results, nil
}

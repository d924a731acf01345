package solve

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
)

// solver is the state of one solve.
type solver[R Result] struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	graph   *graph.Graph
	runner  Runner[R]
	observe func(Event)
	slots   chan struct{} // nil when there is no bound
	running sync.WaitGroup
	steps   []step[R] // by vertex ID
}

// step holds the memoised values of one vertex.
type step[R Result] struct {
	found  memo[found[R]]
	record memo[R]
	result memo[R]
}

// found is what the first lookup of a vertex gave.
type found[R Result] struct {
	key    cache.Key
	in     []R // the records of the inputs, which the key was made of
	hit    bool
	result R
}

// memo is a value that is computed at most once, by whoever comes first; the
// others wait on a channel, which testing/synctest knows, unlike sync.Once.
type memo[T any] struct {
	taken atomic.Bool
	done  chan struct{}
	value T
	err   error
}

func (m *memo[T]) get(compute func() (T, error)) (T, error) {
	if m.taken.CompareAndSwap(false, true) {
		m.value, m.err = compute()
		close(m.done)
	} else {
		<-m.done
	}
	return m.value, m.err
}

func newSolver[R Result](ctx context.Context, cancel context.CancelCauseFunc, g *graph.Graph, r Runner[R], o Options) *solver[R] {
	s := &solver[R]{ctx: ctx, cancel: cancel, graph: g, runner: r, observe: o.Observe,
		steps: make([]step[R], len(g.Vertices))}
	for i := range s.steps {
		step := &s.steps[i]
		step.found.done = make(chan struct{})
		step.record.done = make(chan struct{})
		step.result.done = make(chan struct{})
	}
	if s.observe == nil {
		s.observe = func(Event) {}
	}
	if o.Jobs > 0 {
		s.slots = make(chan struct{}, o.Jobs)
	}
	return s
}

// record is what v makes, as content ids.
func (s *solver[R]) record(id graph.ID) (R, error) {
	return s.steps[id].record.get(func() (R, error) {
		f, err := s.found(id)
		if err == nil && f.hit {
			return f.result, nil
		}
		return s.result(id)
	})
}

// found computes v's key from the records of its inputs and looks it up.
func (s *solver[R]) found(id graph.ID) (found[R], error) {
	return s.steps[id].found.get(func() (found[R], error) {
		v := s.graph.Vertex(id)
		in, err := each(v.Inputs, s.record)
		if err != nil {
			return found[R]{}, err
		}
		f := found[R]{in: in}
		if f.key, err = s.key(v, in); err == nil {
			s.report(v, Keyed, nil)
			f.result, f.hit, err = s.lookup(v, f.key, in)
		}
		if err != nil {
			return found[R]{}, s.fail(v, err)
		}
		if f.hit {
			s.report(v, Hit, nil)
		}
		return f, nil
	})
}

// key asks for v's key, getting the bytes of inputs where these are wanted.
func (s *solver[R]) key(v *graph.Vertex, in []R) (cache.Key, error) {
	for tries := 0; ; tries++ {
		key, err := s.runner.Key(s.ctx, v, in)
		var need *NeedBytes
		if !errors.As(err, &need) || tries == len(in) {
			return key, err
		}
		if in[need.Input], err = s.result(v.Inputs[need.Input]); err != nil {
			return nil, err
		}
	}
}

func (s *solver[R]) lookup(v *graph.Vertex, key cache.Key, in []R) (R, bool, error) {
	if v.NoCache {
		var none R
		return none, false, nil
	}
	return s.runner.Lookup(s.ctx, v, key, in)
}

// result is what v makes, with its bytes.
func (s *solver[R]) result(id graph.ID) (R, error) {
	return s.steps[id].result.get(func() (R, error) {
		v := s.graph.Vertex(id)
		var none R
		f, err := s.found(id)
		if err != nil {
			return none, err
		}
		if f.hit && s.runner.Ready(s.ctx, v, f.result) {
			same, err := s.partsUnchanged(v, f)
			if err != nil || same {
				return f.result, err
			}
		}
		in, err := s.inputs(v)
		if err != nil {
			return none, err
		}
		key := f.key
		if !sameContent(in, f.in) {
			// A step whose bytes were gone has rerun and made other content
			// than its record said: what this one has to work on is that.
			if key, err = s.key(v, in); err != nil {
				return none, s.fail(v, err)
			}
		}
		r, err := s.runOnce(v, key, in)
		if err != nil {
			return none, s.fail(v, err)
		}
		return r, nil
	})
}

// partsUnchanged gets the bytes that v shares with its inputs and reports
// whether they are still those that v's record was made over.
func (s *solver[R]) partsUnchanged(v *graph.Vertex, f found[R]) (bool, error) {
	for _, i := range s.runner.Parts(v) {
		part, err := s.result(v.Inputs[i])
		if err != nil {
			return false, err
		}
		if part.Content() != f.in[i].Content() {
			return false, nil
		}
	}
	return true, nil
}

// inputs gets the results of v's inputs, side by side.
func (s *solver[R]) inputs(v *graph.Vertex) ([]R, error) {
	for _, in := range v.Inputs[min(1, len(v.Inputs)):] {
		s.running.Go(func() { s.result(in) }) //nolint:errcheck // asked for again below
	}
	return each(v.Inputs, s.result)
}

// runOnce runs v unless somebody else has done so by the time the lock is held.
func (s *solver[R]) runOnce(v *graph.Vertex, key cache.Key, in []R) (R, error) {
	var none R
	unlock, err := s.runner.Lock(s.ctx, key)
	if err != nil {
		return none, err
	}
	defer unlock()
	r, hit, err := s.lookup(v, key, in)
	if err != nil {
		return none, err
	}
	if hit && s.runner.Ready(s.ctx, v, r) {
		s.report(v, Hit, nil)
		return r, nil
	}
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-s.ctx.Done():
			return none, context.Cause(s.ctx)
		}
	}
	if err := context.Cause(s.ctx); err != nil {
		return none, err
	}
	s.report(v, Running, nil)
	if r, err = s.runner.Run(s.ctx, v, key, in); err != nil {
		return none, err
	}
	s.report(v, Done, nil)
	return r, nil
}

// fail makes err the solve's, unless another failure came first.
func (s *solver[R]) fail(v *graph.Vertex, err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	var step *StepError
	if !errors.As(err, &step) {
		step = &StepError{Vertex: v, Err: err}
		s.report(v, Failed, err)
	}
	s.cancel(step)
	return context.Cause(s.ctx)
}

func (s *solver[R]) report(v *graph.Vertex, state State, err error) {
	s.observe(Event{Vertex: v, State: state, At: time.Now(), Err: err})
}

// each calls get for every ID and stops at the first error.
func each[R any](ids []graph.ID, get func(graph.ID) (R, error)) ([]R, error) {
	out := make([]R, len(ids))
	for i, id := range ids {
		var err error
		if out[i], err = get(id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sameContent[R Result](a, b []R) bool {
	for i := range a {
		if a[i].Content() != b[i].Content() {
			return false
		}
	}
	return true
}

package build

import (
	"sync"
	"time"

	"stagecraft/internal/graph"
	"stagecraft/internal/solve"
)

// maxLog is how much of what a step printed is kept with its record, in bytes.
const maxLog = 2 << 20

// reporter turns what happens into the stream of events, and keeps what the
// summary needs.
type reporter struct {
	mu      sync.Mutex
	observe func(Event)
	next    int
	steps   map[graph.ID]*stepTrace
}

// stepTrace is what is known of a vertex so far.
type stepTrace struct {
	number     int
	state      solve.State
	start, end time.Time
}

func newReporter(observe func(Event)) *reporter {
	if observe == nil {
		observe = func(Event) {}
	}
	return &reporter{observe: observe, steps: map[graph.ID]*stepTrace{}}
}

func (r *reporter) notice(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe(Event{Kind: EventNotice, At: time.Now(), Text: text})
}

// step takes the solver's events. A source has none of its own: it shows when
// its bytes are fetched.
func (r *reporter) step(e solve.Event) {
	if operationOf(e.Vertex) == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.trace(e.Vertex.ID)
	t.state = e.State
	switch e.State {
	case solve.Hit:
		r.observe(Event{Kind: EventCached, At: e.At, Step: t.number, Name: e.Vertex.Name})
	case solve.Running:
		t.start = e.At
		r.observe(Event{Kind: EventStarted, At: e.At, Step: t.number, Name: e.Vertex.Name})
	case solve.Done:
		t.end = e.At
		r.observe(Event{Kind: EventDone, At: e.At, Step: t.number, Since: e.At.Sub(t.start).Seconds()})
	case solve.Failed:
		if t.start.IsZero() { // it failed before it ran, over its key
			t.start = e.At
			r.observe(Event{Kind: EventStarted, At: e.At, Step: t.number, Name: e.Vertex.Name})
		}
		r.observe(Event{Kind: EventFailed, At: e.At, Step: t.number, Text: e.Err.Error(), Since: e.At.Sub(t.start).Seconds()})
	}
}

func (r *reporter) trace(id graph.ID) *stepTrace {
	t := r.steps[id]
	if t == nil {
		r.next++
		t = &stepTrace{number: r.next}
		r.steps[id] = t
	}
	return t
}

// task reports work that is no step, such as pulling a base image, from its
// start to the call of the function returned.
func (r *reporter) task(name string) (done func(error)) {
	start := time.Now()
	r.mu.Lock()
	r.next++
	number := r.next
	r.observe(Event{Kind: EventStarted, At: start, Step: number, Name: name})
	r.mu.Unlock()
	return func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		e := Event{Kind: EventDone, At: time.Now(), Step: number, Since: time.Since(start).Seconds()}
		if err != nil {
			e.Kind, e.Text = EventFailed, err.Error()
		}
		r.observe(e)
	}
}

// stepLog takes what a step prints.
type stepLog struct {
	r      *reporter
	number int
	start  time.Time
	kept   []byte
}

func (r *reporter) log(v *graph.Vertex) *stepLog {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.trace(v.ID)
	return &stepLog{r: r, number: t.number, start: t.start}
}

// Write is called from one goroutine: both streams of a process are one.
func (l *stepLog) Write(b []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	now := time.Now()
	l.r.observe(Event{Kind: EventLog, At: now, Step: l.number, Log: append([]byte(nil), b...), Since: now.Sub(l.start).Seconds()})
	if room := maxLog - len(l.kept); room > 0 {
		l.kept = append(l.kept, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

// bytes is what was printed, its beginning where it was much.
func (l *stepLog) bytes() []byte {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.kept
}

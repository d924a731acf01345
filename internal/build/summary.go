package build

import (
	"slices"
	"time"

	"stagecraft/internal/graph"
	"stagecraft/internal/snapshot"
	"stagecraft/internal/solve"
)

// summary says what the build did to make the target.
func (s *session) summary(target *value) Summary {
	sum := Summary{ImageBytes: s.size(target.stack)}
	s.report.mu.Lock()
	var runs []stepTrace
	for _, id := range s.plan.Graph.Needed(s.plan.Target) {
		t := s.report.steps[id]
		if t == nil {
			continue
		}
		sum.Steps++
		switch t.state {
		case solve.Done:
			sum.Ran++
			runs = append(runs, *t)
		case solve.Hit:
			sum.Cached++
		}
	}
	s.report.mu.Unlock()
	sum.Wall, sum.Saved = sideBySide(runs)
	for _, st := range s.plan.Stages {
		if !st.Needed {
			sum.Skipped = append(sum.Skipped, st)
			continue
		}
		if st.Target || st.Root == graph.None {
			continue
		}
		root := s.values.get(st.Root)
		if root == nil {
			continue
		}
		if n := s.size(root.stack); n > sum.LargestBytes {
			sum.Largest, sum.LargestBytes = st.Label(), n
		}
	}
	return sum
}

// sideBySide returns how long at least one step ran, and what running them one
// after the other would have added.
func sideBySide(runs []stepTrace) (wall, saved time.Duration) {
	slices.SortFunc(runs, func(a, b stepTrace) int { return a.start.Compare(b.start) })
	var total time.Duration
	var until time.Time
	for _, t := range runs {
		total += t.end.Sub(t.start)
		from := t.start
		if from.Before(until) {
			from = until
		}
		if t.end.After(from) {
			wall += t.end.Sub(from)
			until = t.end
		}
	}
	return wall, total - wall
}

// size is the size of a root's files in bytes, layer by layer. A layer that was
// never unpacked here counts nothing.
func (s *session) size(stack *snapshot.Stack) int64 {
	var n int64
	for _, id := range stack.Layers() {
		if l, err := s.Store.Layer(id); err == nil {
			n += l.Bytes
		}
	}
	return n
}

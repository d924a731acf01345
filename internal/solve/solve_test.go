package solve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

type content string

func (c content) Content() oci.Digest { return oci.FromBytes([]byte(c)) }

// fake makes strings: a step's content is what make says, by default its name
// over the contents of its inputs. It counts what it is asked.
type fake struct {
	make  func(name string, in []content) content
	run   func(ctx context.Context, name string) error
	need  map[string]int // steps whose key wants the bytes of that input
	bytes map[content]bool

	mu      sync.Mutex
	records map[oci.Digest]content
	locks   map[oci.Digest]chan struct{}
	keys    map[string]int
	runs    map[string]int
}

func newFake() *fake {
	return &fake{
		make: func(name string, in []content) content {
			return content(fmt.Sprintf("%s%v", name, in))
		},
		bytes:   map[content]bool{},
		records: map[oci.Digest]content{},
		locks:   map[oci.Digest]chan struct{}{},
		keys:    map[string]int{},
		runs:    map[string]int{},
	}
}

func (f *fake) forget() { f.keys, f.runs = map[string]int{}, map[string]int{} }

func (f *fake) Key(_ context.Context, v *graph.Vertex, in []content) (cache.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[v.Name]++
	if i, ok := f.need[v.Name]; ok && !f.bytes[in[i]] {
		return nil, &NeedBytes{Input: i}
	}
	k := cache.Key{{Name: "op", Value: v.Text}}
	for _, c := range in {
		k.Add("input", c.Content().String())
	}
	return k, nil
}

func (f *fake) Lookup(_ context.Context, _ *graph.Vertex, key cache.Key, _ []content) (content, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.records[key.Digest()]
	return c, ok, nil
}

func (f *fake) Ready(_ context.Context, _ *graph.Vertex, c content) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes[c]
}

func (f *fake) Parts(v *graph.Vertex) []int {
	if len(v.Inputs) == 0 {
		return nil
	}
	return []int{0}
}

func (f *fake) Lock(_ context.Context, key cache.Key) (func(), error) {
	f.mu.Lock()
	l := f.locks[key.Digest()]
	if l == nil {
		l = make(chan struct{}, 1)
		f.locks[key.Digest()] = l
	}
	f.mu.Unlock()
	l <- struct{}{}
	return func() { <-l }, nil
}

func (f *fake) Run(ctx context.Context, v *graph.Vertex, key cache.Key, in []content) (content, error) {
	f.mu.Lock()
	f.runs[v.Name]++
	for i, c := range in {
		if !f.bytes[c] {
			f.mu.Unlock()
			return "", fmt.Errorf("ran without the bytes of input %d", i)
		}
	}
	f.mu.Unlock()
	if f.run != nil {
		if err := f.run(ctx, v.Name); err != nil {
			return "", err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.make(v.Text, in)
	f.bytes[c] = true
	f.records[key.Digest()] = c
	return c, nil
}

// chain is a -> b -> c ... ; each step's text is its name.
func chain(names ...string) *graph.Graph {
	g := &graph.Graph{}
	for i, n := range names {
		v := &graph.Vertex{Name: n, Text: n}
		if i > 0 {
			v.Inputs = []graph.ID{graph.ID(i - 1)}
		}
		g.Add(v)
	}
	return g
}

// diamond is base, then left and right side by side, then join.
func diamond() *graph.Graph {
	g := &graph.Graph{}
	base := g.Add(&graph.Vertex{Name: "base", Text: "base"})
	left := g.Add(&graph.Vertex{Name: "left", Text: "left", Inputs: []graph.ID{base}})
	right := g.Add(&graph.Vertex{Name: "right", Text: "right", Inputs: []graph.ID{base}})
	g.Add(&graph.Vertex{Name: "join", Text: "join", Inputs: []graph.ID{left, right}})
	return g
}

func last(g *graph.Graph) graph.ID { return graph.ID(len(g.Vertices) - 1) }

func solve(t *testing.T, f *fake, g *graph.Graph) content {
	t.Helper()
	out, err := Solve(t.Context(), g, f, Options{}, last(g))
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func wantRuns(t *testing.T, f *fake, names ...string) {
	t.Helper()
	want := map[string]int{}
	for _, n := range names {
		want[n]++
	}
	if d := cmp.Diff(want, f.runs); d != "" {
		t.Errorf("runs (-want +got):\n%s", d)
	}
}

func TestEachStepRunsOnceThenNever(t *testing.T) {
	f, g := newFake(), diamond()
	got := solve(t, f, g)
	if want := content("join[left[base[]] right[base[]]]"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantRuns(t, f, "base", "left", "right", "join")
	for name, n := range f.keys {
		if n != 1 {
			t.Errorf("key of %s computed %d times", name, n)
		}
	}
	f.forget()
	solve(t, f, g)
	wantRuns(t, f)
}

func TestUnneededStepIsNeverAsked(t *testing.T) {
	f, g := newFake(), diamond()
	if _, err := Solve(t.Context(), g, f, Options{}, 1); err != nil {
		t.Fatal(err)
	}
	wantRuns(t, f, "base", "left")
	if f.keys["right"]+f.keys["join"] != 0 {
		t.Errorf("keys asked: %v", f.keys)
	}
}

func TestEqualKeysRunOnce(t *testing.T) {
	f, g := newFake(), &graph.Graph{}
	a := g.Add(&graph.Vertex{Name: "a", Text: "same"})
	b := g.Add(&graph.Vertex{Name: "b", Text: "same"})
	g.Add(&graph.Vertex{Name: "join", Text: "join", Inputs: []graph.ID{a, b}})
	solve(t, f, g)
	if f.runs["a"]+f.runs["b"] != 1 {
		t.Errorf("runs: %v, want one of a and b", f.runs)
	}
}

func TestEarlyCutoff(t *testing.T) {
	f, g := newFake(), chain("a", "b", "c")
	f.make = func(name string, in []content) content {
		return content(strings.TrimSuffix(name, "'") + fmt.Sprint(in))
	}
	solve(t, f, g)
	f.forget()
	g.Vertices[0].Text = "a'" // another instruction that makes the same bytes
	solve(t, f, g)
	wantRuns(t, f, "a")
}

func TestNoCacheRunsAgain(t *testing.T) {
	f, g := newFake(), chain("a", "b", "c")
	solve(t, f, g)
	f.forget()
	g.Vertices[1].NoCache = true
	solve(t, f, g)
	wantRuns(t, f, "b")
}

// A record without bytes answers for keys; the step reruns only where its
// bytes are part of what is wanted.
func TestBytesGone(t *testing.T) {
	f, g := newFake(), diamond()
	solve(t, f, g)
	f.forget()
	delete(f.bytes, "right[base[]]") // copied from, not part of the target
	solve(t, f, g)
	wantRuns(t, f)
	delete(f.bytes, "left[base[]]")
	solve(t, f, g)
	wantRuns(t, f, "left")
	f.forget()
	delete(f.bytes, "right[base[]]")
	delete(f.bytes, "join[left[base[]] right[base[]]]")
	solve(t, f, g)
	wantRuns(t, f, "right", "join")
}

// A step whose bytes are gone and that makes other content this time: nothing
// that was recorded over the old content may be mixed with the new.
func TestBytesGoneAndNotReproducible(t *testing.T) {
	f, g := newFake(), chain("a", "b", "c")
	solve(t, f, g)
	f.forget()
	delete(f.bytes, "a[]")
	plain := f.make
	f.make = func(name string, in []content) content {
		if name == "a" {
			return "A"
		}
		return plain(name, in)
	}
	if got, want := solve(t, f, g), content("c[b[A]]"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantRuns(t, f, "a", "b", "c")
}

func TestKeyThatNeedsBytes(t *testing.T) {
	f, g := newFake(), diamond()
	solve(t, f, g)
	f.forget()
	f.need = map[string]int{"join": 1}
	delete(f.bytes, "right[base[]]")
	solve(t, f, g)
	wantRuns(t, f, "right")
}

func TestFailureCancelsSiblings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newFake(), diamond()
		boom := errors.New("boom")
		f.run = func(ctx context.Context, name string) error {
			switch name {
			case "left":
				time.Sleep(time.Second)
				return boom
			case "right":
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Hour):
				}
			}
			return nil
		}
		start := time.Now()
		_, err := Solve(t.Context(), g, f, Options{}, last(g))
		var step *StepError
		if !errors.As(err, &step) || step.Vertex.Name != "left" || !errors.Is(err, boom) {
			t.Errorf("error %v, want left's", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s, want the 1 s of the failing step", took)
		}
		if f.runs["join"] != 0 {
			t.Error("join ran")
		}
	})
}

func TestCancelFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newFake(), diamond()
		f.run = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Solve(ctx, g, f, Options{}, last(g)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		// synctest fails the test when a goroutine is left.
	})
}

func TestSideBySideWithinJobs(t *testing.T) {
	for _, jobs := range []int{1, 2, 0} {
		synctest.Test(t, func(t *testing.T) {
			f, g := newFake(), &graph.Graph{}
			var ids []graph.ID
			for i := range 6 {
				n := fmt.Sprint("s", i)
				ids = append(ids, g.Add(&graph.Vertex{Name: n, Text: n}))
			}
			g.Add(&graph.Vertex{Name: "join", Text: "join", Inputs: ids})
			f.run = func(_ context.Context, name string) error {
				if name != "join" {
					time.Sleep(time.Second)
				}
				return nil
			}
			start := time.Now()
			if _, err := Solve(t.Context(), g, f, Options{Jobs: jobs}, last(g)); err != nil {
				t.Fatal(err)
			}
			want := map[int]time.Duration{1: 6 * time.Second, 2: 3 * time.Second, 0: time.Second}[jobs]
			if took := time.Since(start); took != want {
				t.Errorf("jobs %d: took %s, want %s", jobs, took, want)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	f, g := newFake(), chain("a", "b")
	var mu sync.Mutex
	states := map[string][]string{}
	o := Options{Observe: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		states[e.Vertex.Name] = append(states[e.Vertex.Name], e.State.String())
	}}
	if _, err := Solve(t.Context(), g, f, o, last(g)); err != nil {
		t.Fatal(err)
	}
	ran := []string{"keyed", "running", "done"}
	if d := cmp.Diff(map[string][]string{"a": ran, "b": ran}, states); d != "" {
		t.Error(d)
	}
	clear(states)
	if _, err := Solve(t.Context(), g, f, o, last(g)); err != nil {
		t.Fatal(err)
	}
	hit := []string{"keyed", "hit"}
	if d := cmp.Diff(map[string][]string{"a": hit, "b": hit}, states); d != "" {
		t.Error(d)
	}
}

// Random graphs, random edits, random loss of bytes: the result is always that
// of a build without a cache, and no step runs twice.
func TestRandomGraphsAgainstNoCache(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := &graph.Graph{}
		for i := range 1 + rng.IntN(25) {
			v := &graph.Vertex{Name: fmt.Sprint("v", i), Text: fmt.Sprint("t", rng.IntN(8))}
			for j := range i {
				if rng.IntN(i) < 2 {
					v.Inputs = append(v.Inputs, graph.ID(j))
				}
			}
			g.Add(v)
		}
		// Half of the texts drop their inputs, which makes cutoffs.
		pure := func(name string, in []content) content {
			if name[1]%2 == 0 {
				in = nil
			}
			return content(oci.FromBytes(fmt.Appendf(nil, "%s%v", name, in)))
		}
		f := newFake()
		f.make = pure
		for range 5 {
			f.forget()
			fresh := newFake()
			fresh.make = pure
			if got, want := solve(t, f, g), solve(t, fresh, g); got != want {
				t.Fatalf("seed %d: %s, without cache %s", seed, got, want)
			}
			for name, n := range f.runs {
				if n > 1 {
					t.Fatalf("seed %d: %s ran %d times", seed, name, n)
				}
			}
			g.Vertices[rng.IntN(len(g.Vertices))].Text = fmt.Sprint("t", rng.IntN(8))
			for _, c := range slices.Sorted(maps.Keys(f.bytes)) {
				if rng.IntN(3) == 0 {
					delete(f.bytes, c)
				}
			}
		}
	}
}

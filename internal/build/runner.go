package build

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
	"stagecraft/internal/snapshot"
	"stagecraft/internal/solve"
	"stagecraft/internal/tree"
)

// value is what a vertex makes: a root file system, or a local directory.
type value struct {
	stack  *snapshot.Stack
	record *cache.Record // of a step; nil for a source
	local  string        // name of a local directory
}

// Content identifies the root file system. A local directory has its name: what
// of it matters is in the keys of the steps that copy from it.
func (v *value) Content() oci.Digest {
	if v.local != "" {
		return oci.FromBytes([]byte("local " + v.local))
	}
	return v.stack.Content()
}

// runner gives the ops their meaning. What differs between ops is in op_*.go,
// behind [operation].
type runner struct {
	*session
	selections selections
	specOnce   sync.Once
	spec       *sandboxFiles
	specErr    error
}

var _ solve.Runner[*value] = (*runner)(nil)

// operation is one op's side of a step.
type operation interface {
	// key appends what the step's result depends on.
	key(ctx context.Context, r *runner, v *graph.Vertex, in []*value, k *cache.Key) error
	// run makes the layer; nil when nothing changed.
	run(ctx context.Context, r *runner, v *graph.Vertex, in []*value, out *stepLog) (*cache.Layer, error)
	// overlies reports whether input 0 is the root that the layer lies over.
	overlies(v *graph.Vertex) bool
}

func newRunner(s *session) *runner { return &runner{session: s} }

func operationOf(v *graph.Vertex) operation {
	switch op := v.Op.(type) {
	case *graph.Exec:
		return (*execOp)(op)
	case *graph.File:
		return (*fileOp)(op)
	}
	return nil
}

// source returns the value of a vertex that is no step.
func (r *runner) source(v *graph.Vertex) (*value, bool) {
	switch op := v.Op.(type) {
	case *graph.Local:
		return &value{local: op.Name}, true
	case *graph.Image:
		return &value{stack: r.images.stack(op.Digest)}, true
	}
	return nil, false
}

func (r *runner) Key(ctx context.Context, v *graph.Vertex, in []*value) (cache.Key, error) {
	op := operationOf(v)
	if op == nil {
		return nil, nil
	}
	var k cache.Key
	err := op.key(ctx, r, v, in, &k)
	return k, err
}

func (r *runner) Lookup(_ context.Context, v *graph.Vertex, key cache.Key, in []*value) (*value, bool, error) {
	if val, ok := r.source(v); ok {
		r.values.put(v.ID, val)
		return val, true, nil
	}
	rec, err := r.Store.Record(key.Digest())
	if errors.Is(err, cache.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return r.over(v, in, rec), true, nil
}

// over is the value of a step with that record.
func (r *runner) over(v *graph.Vertex, in []*value, rec *cache.Record) *value {
	var stack *snapshot.Stack
	if operationOf(v).overlies(v) {
		stack = in[0].stack
	}
	if rec.Layer != "" {
		stack = stack.Push(rec.Layer)
	}
	val := &value{stack: stack, record: rec}
	r.values.put(v.ID, val)
	return val
}

// values remembers what the vertices made, the latest of each.
type values struct {
	mu sync.Mutex
	m  map[graph.ID]*value
}

func (s *values) put(id graph.ID, v *value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[graph.ID]*value{}
	}
	s.m[id] = v
}

func (s *values) get(id graph.ID) *value {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[id]
}

func (r *runner) Ready(_ context.Context, _ *graph.Vertex, val *value) bool {
	if val.record == nil || val.record.Layer == "" {
		return true
	}
	_, err := r.Store.Layer(val.record.Layer)
	return err == nil
}

func (r *runner) Parts(v *graph.Vertex) []int {
	if op := operationOf(v); op != nil && op.overlies(v) {
		return []int{0}
	}
	return nil
}

func (r *runner) Lock(ctx context.Context, key cache.Key) (func(), error) {
	return r.Store.Lock(ctx, "step "+key.Digest().String())
}

func (r *runner) Run(ctx context.Context, v *graph.Vertex, key cache.Key, in []*value) (*value, error) {
	start := time.Now()
	log := r.report.log(v)
	layer, err := operationOf(v).run(ctx, r, v, in, log)
	if err != nil {
		return nil, err
	}
	rec := &cache.Record{Key: key, Created: start.UTC(), Duration: time.Since(start)}
	if layer != nil {
		rec.Layer, rec.Created = layer.ID, layer.Created
	}
	if b := log.bytes(); len(b) > 0 {
		if rec.Log, err = r.Store.PutBlob(b); err != nil {
			return nil, err
		}
	}
	if err := r.Store.PutRecord(rec); err != nil {
		return nil, err
	}
	return r.over(v, in, rec), nil
}

// layers returns the unpacked layers of a root, pulling what is missing.
func (s *session) layers(ctx context.Context, stack *snapshot.Stack) ([]*cache.Layer, error) {
	if img, err := s.images.ensure(ctx, s.Store, stack, s.report); err != nil {
		return nil, s.baseFailure(img, err)
	}
	ids := stack.Layers()
	layers := make([]*cache.Layer, len(ids))
	for i, id := range ids {
		l, err := s.Store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
		layers[i] = l
	}
	return layers, nil
}

// view returns the merged tree of a root whose layers are unpacked.
func (s *session) view(layers []*cache.Layer) (*tree.View, error) {
	l, err := s.treeLayers(layers)
	if err != nil {
		return nil, err
	}
	return tree.NewView(l), nil
}

// treeLayers pairs the layers with their manifests.
func (s *session) treeLayers(layers []*cache.Layer) ([]tree.Layer, error) {
	out := make([]tree.Layer, len(layers))
	for i, l := range layers {
		m, err := s.manifests.get(s.Store, l)
		if err != nil {
			return nil, fmt.Errorf("manifest of layer %s: %w", l.ID, err)
		}
		out[i] = tree.Layer{Dir: l.Dir, Manifest: m}
	}
	return out, nil
}

// manifests keeps what was decoded: stages share base layers.
type manifests struct {
	mu sync.Mutex
	m  map[oci.Digest]*tree.Manifest
}

func (c *manifests) get(store *cache.Store, l *cache.Layer) (*tree.Manifest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.m[l.Manifest]; ok {
		return m, nil
	}
	m, err := image.LayerManifest(store, l)
	if err != nil {
		return nil, err
	}
	if c.m == nil {
		c.m = map[oci.Digest]*tree.Manifest{}
	}
	c.m[l.Manifest] = m
	return m, nil
}

// sandboxSpec is made once per build.
func (r *runner) sandboxFiles() (*sandboxFiles, error) {
	r.specOnce.Do(func() { r.spec, r.specErr = newSandboxFiles(r.Store) })
	return r.spec, r.specErr
}

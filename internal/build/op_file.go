package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
	"stagecraft/internal/snapshot"
	"stagecraft/internal/solve"
	"stagecraft/internal/tree"
)

// fileOp is COPY, ADD and WORKDIR.
type fileOp graph.File

func (op *fileOp) overlies(*graph.Vertex) bool { return !op.Scratch }

func (op *fileOp) key(ctx context.Context, r *runner, v *graph.Vertex, in []*value, k *cache.Key) error {
	k.Add("op", "file")
	for i, a := range op.Actions {
		switch a := a.(type) {
		case *graph.Copy:
			content, err := r.selected(ctx, v, i, a, in[a.From])
			if err != nil {
				return err
			}
			k.Add("copy", content.String())
			k.Add("to", a.Dest)
			k.Add("owner", a.Owner)
			k.Add("mode", modeText(a.Mode))
			k.Add("extract", fmt.Sprint(a.Extract))
		case *graph.Mkdir:
			k.Add("mkdir", a.Path)
			k.Add("owner", a.Owner)
			k.Add("mode", modeText(&a.Mode))
		case *graph.Mkfile:
			k.Add("mkfile", oci.FromBytes(a.Data).String())
			k.Add("name", a.Name)
			k.Add("to", a.Dest)
			k.Add("owner", a.Owner)
			k.Add("mode", modeText(&a.Mode))
		}
	}
	if !op.Scratch {
		k.Add("root", in[0].Content().String())
	}
	return nil
}

func modeText(mode *uint32) string {
	if mode == nil {
		return ""
	}
	return fmt.Sprintf("%o", *mode)
}

// selections keeps what was selected for a key, so that what is then copied is
// what the key says, whatever happens to the directory in between.
type selections struct {
	mu sync.Mutex
	m  map[selectionID]*tree.Selection
}

type selectionID struct {
	vertex graph.ID
	action int
}

func (s *selections) put(id selectionID, sel *tree.Selection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[selectionID]*tree.Selection{}
	}
	s.m[id] = sel
}

func (s *selections) get(id selectionID) *tree.Selection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[id]
}

// copyOptions are those of the action. Where it changes the owner, that is left
// at root's: the name may have to be looked up in the destination first.
func copyOptions(a *graph.Copy) tree.CopyOptions {
	o := tree.CopyOptions{Sources: a.Sources, Dest: a.Dest, Mode: a.Mode, Extract: a.Extract, Link: true}
	if a.Owner != "" {
		o.Owner = &tree.Owner{}
	}
	return o
}

// selected returns the content id of what action i of v copies from src. Of a
// root file system it is remembered: neither manifests nor layers are read again
// while the root stays the same.
func (r *runner) selected(ctx context.Context, v *graph.Vertex, i int, a *graph.Copy, src *value) (oci.Digest, error) {
	if src.local != "" {
		sel, err := r.selectFrom(ctx, v, i, a, src)
		if err != nil {
			return "", err
		}
		return sel.Digest(), nil
	}
	name, err := json.Marshal([]any{src.Content(), a.Sources, a.Owner != "", a.Mode})
	if err != nil {
		return "", err
	}
	var known oci.Digest
	if ok, err := r.Store.Fact("selection", string(name), &known); ok || err != nil {
		return known, err
	}
	sel, err := r.selectFrom(ctx, v, i, a, src)
	if errors.Is(err, cache.ErrNotFound) {
		return "", &solve.NeedBytes{Input: a.From}
	}
	if err != nil {
		return "", err
	}
	known = sel.Digest()
	return known, r.Store.PutFact("selection", string(name), known)
}

// selectFrom resolves what the action copies.
func (r *runner) selectFrom(ctx context.Context, v *graph.Vertex, i int, a *graph.Copy, src *value) (*tree.Selection, error) {
	from, err := r.tree(ctx, src)
	if err != nil {
		return nil, err
	}
	sel, err := tree.Select(ctx, from, copyOptions(a))
	var missing *tree.MissingError
	if errors.As(err, &missing) {
		return nil, r.explainMissing(missing, a, src)
	}
	if err != nil {
		return nil, err
	}
	r.selections.put(selectionID{v.ID, i}, sel)
	return sel, nil
}

// tree is what can be copied from: a directory, or a root.
func (r *runner) tree(ctx context.Context, src *value) (tree.Source, error) {
	if src.local != "" {
		return r.inputs.local(src.local)
	}
	layers, err := r.layers(ctx, src.stack)
	if err != nil {
		return nil, err
	}
	return r.view(layers)
}

func (op *fileOp) run(ctx context.Context, r *runner, v *graph.Vertex, in []*value, _ *stepLog) (*cache.Layer, error) {
	var stack *snapshot.Stack
	if !op.Scratch {
		stack = in[0].stack
	}
	layers, err := r.layers(ctx, stack)
	if err != nil {
		return nil, err
	}
	base, err := r.view(layers)
	if err != nil {
		return nil, err
	}
	dir, err := r.Store.TempDir("files")
	if err != nil {
		return nil, err
	}
	m, err := op.write(ctx, r, v, in, base, dir)
	if err != nil {
		return nil, errors.Join(err, r.Store.RemoveTemp(dir))
	}
	return snapshot.CommitDir(r.Store, dir, m)
}

// write applies the actions to a new layer in dir.
func (op *fileOp) write(ctx context.Context, r *runner, v *graph.Vertex, in []*value, base *tree.View, dir string) (*tree.Manifest, error) {
	b, err := tree.OpenBuilder(ctx, base, dir)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	for i, a := range op.Actions {
		switch a := a.(type) {
		case *graph.Copy:
			owner, err := ownerIn(base, a.Owner)
			if err != nil {
				return nil, err
			}
			sel := r.selections.get(selectionID{v.ID, i})
			if sel == nil {
				if sel, err = r.selectFrom(ctx, v, i, a, in[a.From]); err != nil {
					return nil, err
				}
			}
			if err := b.Copy(sel.WithOwner(owner)); err != nil {
				return nil, explainArchive(err)
			}
		case *graph.Mkdir:
			owner, err := ownerIn(base, a.Owner)
			if err == nil {
				err = b.Mkdir(a.Path, a.Mode, owner)
			}
			if err != nil {
				return nil, err
			}
		case *graph.Mkfile:
			owner, err := ownerIn(base, a.Owner)
			if err == nil {
				err = b.WriteFile(a.Dest, a.Name, a.Data, a.Mode, owner)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return b.Finish()
}

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/tree"
)

// LayerManifest reads the manifest of a layer. A layer without one is dropped
// from the store, so that what made it runs again.
func LayerManifest(store *cache.Store, layer *cache.Layer) (*tree.Manifest, error) {
	encoded, err := store.ReadBlob(layer.Manifest)
	if errors.Is(err, cache.ErrNotFound) {
		return nil, errors.Join(fmt.Errorf("layer %s: its manifest is gone: %w", layer.ID, err), store.RemoveLayer(layer.ID))
	}
	if err != nil {
		return nil, err
	}
	return tree.DecodeManifest(encoded)
}

// rootFiles walks the merged files of layers, with what a [tree.View] does not
// tell: times, and which names are one file.
type rootFiles struct {
	layers []tree.Layer
	view   *tree.View
	roots  []*os.Root
	first  map[fileKey]string // the name that was walked first
}

// fileKey identifies a file of a layer by the first of its names there.
type fileKey struct {
	layer int
	path  string
}

func openRootFiles(layers []tree.Layer) (*rootFiles, error) {
	r := &rootFiles{layers: layers, view: tree.NewView(layers), first: map[fileKey]string{}}
	for _, l := range layers {
		root, err := os.OpenRoot(l.Dir)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.roots = append(r.roots, root)
	}
	return r, nil
}

func (r *rootFiles) Close() error {
	var errs []error
	for _, root := range r.roots {
		errs = append(errs, root.Close())
	}
	return errors.Join(errs...)
}

// linkTo returns the name under which the file n was walked before, "" for a
// file that is new.
func (r *rootFiles) linkTo(n *tree.Node) string {
	if n.IsDir() || n.Layer < 0 {
		return ""
	}
	key := fileKey{n.Layer, n.Path}
	if e := r.layers[n.Layer].Manifest.Find(n.Path); e != nil && e.Kind == tree.KindHardlink {
		key.path = e.Link
	}
	if first, ok := r.first[key]; ok {
		return first
	}
	r.first[key] = n.Path
	return ""
}

// modTime is when n was last changed, in whole seconds.
func (r *rootFiles) modTime(n *tree.Node) (time.Time, error) {
	if n.Layer < 0 { // an empty root
		return time.Unix(0, 0), nil
	}
	info, err := r.roots[n.Layer].Lstat(n.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, &tree.CorruptError{Path: n.Path, Reason: "it is gone"}
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime().Truncate(time.Second), nil
}

// open opens a regular file; its content is held against the manifest.
func (r *rootFiles) open(n *tree.Node) (*verifiedReader, error) {
	f, err := r.view.Open(n)
	if err != nil {
		return nil, err
	}
	return verify(f, oci.Descriptor{Digest: n.Digest, Size: n.Size}, "file "+n.Path), nil
}

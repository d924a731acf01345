package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/tree"
)

// maxDepth is how many layers overlayfs stacks in one mount
// (OVL_MAX_STACK in the kernel), less the upper and the sandbox's own.
const maxDepth = 498

// Root is a writable root over layers. It ends with Commit or Discard.
type Root struct {
	store *cache.Store
	dir   string
	lower []*cache.Layer
	top   tree.Entry // "/" as the layers below have it
}

// Prepare makes a root over the layers, lowest first.
func Prepare(store *cache.Store, lower []*cache.Layer) (*Root, error) {
	lower = mountable(lower)
	if len(lower) > maxDepth {
		return nil, fmt.Errorf("root over %d layers: overlayfs stacks at most %d; "+
			"join some RUN or COPY instructions", len(lower), maxDepth)
	}
	dir, err := store.TempDir("root")
	if err != nil {
		return nil, err
	}
	r := &Root{store: store, dir: dir, lower: lower}
	if err := errors.Join(os.Mkdir(r.upper(), 0o755), os.Mkdir(r.work(), 0o700)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare root: %w", err), r.Discard())
	}
	if err := r.inheritTop(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare root: %w", err), r.Discard())
	}
	return r, nil
}

// mountable are the layers as overlayfs takes them. It does not heed the opaque
// mark on the root of a layer, so what lies below one is left out. And it
// refuses to take a directory twice: when two steps made the same layer, the
// lower one is left out too, since the upper one says the same of every path
// that it names.
func mountable(layers []*cache.Layer) []*cache.Layer {
	seen := map[oci.Digest]bool{}
	var out []*cache.Layer
	for _, l := range slices.Backward(layers) {
		if !seen[l.ID] {
			seen[l.ID] = true
			out = append(out, l)
		}
		if l.Opaque {
			break
		}
	}
	slices.Reverse(out)
	return out
}

func (r *Root) upper() string { return filepath.Join(r.dir, "upper") }
func (r *Root) work() string  { return filepath.Join(r.dir, "work") }

// inheritTop gives the upper directory the mode and owner of the layer below:
// of "/", overlayfs shows the topmost one's.
func (r *Root) inheritTop() error {
	r.top = tree.Entry{Mode: 0o755}
	if len(r.lower) > 0 {
		var st unix.Stat_t
		if err := unix.Stat(r.lower[len(r.lower)-1].Dir, &st); err != nil {
			return err
		}
		r.top.UID, r.top.GID, r.top.Mode = int(st.Uid), int(st.Gid), st.Mode&0o7777
	}
	return errors.Join(unix.Chown(r.upper(), r.top.UID, r.top.GID), unix.Chmod(r.upper(), r.top.Mode))
}

// Rootfs is the root as the sandbox mounts it.
func (r *Root) Rootfs() sandbox.Rootfs {
	lower := make([]string, len(r.lower))
	for i, l := range r.lower {
		lower[len(lower)-1-i] = l.Dir
	}
	return sandbox.Rootfs{Lower: lower, Upper: r.upper(), Work: r.work()}
}

// Commit makes what was written a layer and ends the root. Without any change
// there is no layer, and nil is returned.
func (r *Root) Commit(ctx context.Context) (*cache.Layer, error) {
	m, err := tree.Scan(ctx, r.upper())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("commit root: %w", err), r.Discard())
	}
	if top := m.Entries[0]; top.UID != r.top.UID || top.GID != r.top.GID || top.Mode != r.top.Mode {
		l, err := commit(r.store, r.upper(), m)
		return l, errors.Join(err, r.Discard())
	}
	l, err := CommitDir(r.store, r.upper(), m)
	return l, errors.Join(err, r.Discard())
}

// Discard drops the root. After Commit it does nothing.
func (r *Root) Discard() error { return r.store.RemoveTemp(r.dir) }

// CommitDir makes the directory, from the store's TempDir, the layer that its
// manifest describes. A manifest of nothing but the root, which is taken to be
// as it was below, gives no layer: nil, and the directory is dropped.
func CommitDir(store *cache.Store, dir string, m *tree.Manifest) (*cache.Layer, error) {
	if len(m.Entries) == 1 && !m.Entries[0].Opaque {
		return nil, store.RemoveTemp(dir)
	}
	return commit(store, dir, m)
}

func commit(store *cache.Store, dir string, m *tree.Manifest) (*cache.Layer, error) {
	id, err := store.PutBlob(m.Encode())
	if err != nil {
		return nil, err
	}
	return store.CommitLayer(dir, cache.Layer{ID: id, Manifest: id, Files: m.Files(), Bytes: m.Bytes(),
		Opaque: m.Entries[0].Opaque})
}

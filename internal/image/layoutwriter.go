package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"stagecraft/internal/oci"
)

// layoutEntries are the entries of index.json for an image: one for each name,
// as BuildKit writes them, or one without a name.
func layoutEntries(img *Image, names []oci.Reference) []oci.Descriptor {
	base := oci.Descriptor{
		MediaType: img.Manifest.MediaType,
		Digest:    img.Digest,
		Size:      int64(len(img.RawManifest)),
		Platform:  &oci.Platform{Architecture: img.Config.Architecture, OS: img.Config.OS, Variant: img.Config.Variant},
	}
	if base.MediaType == "" {
		base.MediaType = v1.MediaTypeImageManifest
	}
	created := map[string]string{}
	if img.Config.Created != nil {
		created[v1.AnnotationCreated] = img.Config.Created.UTC().Format(time.RFC3339)
	}
	if len(names) == 0 {
		if len(created) > 0 {
			base.Annotations = created
		}
		return []oci.Descriptor{base}
	}
	var all []oci.Descriptor
	for _, name := range names {
		d := base
		d.Annotations = map[string]string{annotationContainerd: name.String()}
		if name.Tag() != "" {
			d.Annotations[v1.AnnotationRefName] = name.Tag()
		}
		for k, v := range created {
			d.Annotations[k] = v
		}
		all = append(all, d)
	}
	return all
}

// layoutMeta returns the bytes of index.json and of the version file.
func layoutMeta(entries []oci.Descriptor) (index, version []byte, err error) {
	index, err = json.Marshal(oci.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: entries,
	})
	if err != nil {
		return nil, nil, err
	}
	version, err = json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	return index, version, err
}

// WriteLayout writes an image into the OCI layout directory dest. A new directory
// appears whole. In an existing layout the image takes its names from others, and
// blobs that only those used are removed; the other images stay. Without names it
// takes the place of an image without a name.
//
// An error leaves a new directory unmade and an existing layout as it was.
func WriteLayout(ctx context.Context, img *Image, names []oci.Reference, dest string) error {
	if err := writeLayout(ctx, img, names, dest); err != nil {
		return fmt.Errorf("write image layout %s: %w", dest, err)
	}
	return nil
}

func writeLayout(ctx context.Context, img *Image, names []oci.Reference, dest string) error {
	files, err := os.ReadDir(dest)
	if errors.Is(err, fs.ErrNotExist) {
		return makeDir(dest, func(dir string) error { return updateLayout(ctx, img, names, dir) })
	}
	if err != nil {
		return err
	}
	if len(files) > 0 {
		if _, err := os.Stat(filepath.Join(dest, v1.ImageLayoutFile)); err != nil {
			return errors.New("the directory is neither empty nor an OCI layout; name another")
		}
	}
	return updateLayout(ctx, img, names, dest)
}

// makeDir makes a directory with content, whole or not at all.
func makeDir(dest string, fill func(dir string) error) error {
	dest = filepath.Clean(dest)
	tmp, err := os.MkdirTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".*")
	if err != nil {
		return err
	}
	err = os.Chmod(tmp, 0o755)
	if err == nil {
		err = fill(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, dest)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

// updateLayout puts an image into the layout in dir, which may be empty. The
// rename of index.json is the moment at which it counts.
func updateLayout(ctx context.Context, img *Image, names []oci.Reference, dir string) error {
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	w := &layoutWriter{dir: dir}
	if err := w.clearUnfinished(); err != nil {
		return err
	}
	old, err := w.entries()
	if err != nil {
		return err
	}
	entries := layoutEntries(img, names)
	kept, dropped := replaceEntries(old, entries)
	entries = append(kept, entries...)
	index, version, err := layoutMeta(entries)
	if err == nil {
		err = w.image(ctx, img)
	}
	if err == nil {
		err = w.file(v1.ImageLayoutFile, version)
	}
	if err == nil {
		err = w.file(v1.ImageIndexFile, index)
	}
	if err != nil {
		return errors.Join(err, w.undo())
	}
	return w.collect(entries, dropped)
}

// replaceEntries divides the entries of a layout into those that stay and those
// that a new entry replaces.
func replaceEntries(old, entries []oci.Descriptor) (kept, dropped []oci.Descriptor) {
	for _, d := range old {
		if slices.ContainsFunc(entries, func(e oci.Descriptor) bool { return replaces(e, d) }) {
			dropped = append(dropped, d)
		} else {
			kept = append(kept, d)
		}
	}
	return kept, dropped
}

// replaces reports whether entry e takes the place of entry d: they have the
// same name, or both have none. Tools that write no full names write bare tags.
func replaces(e, d oci.Descriptor) bool {
	full, name := d.Annotations[annotationContainerd], d.Annotations[v1.AnnotationRefName]
	if full != "" {
		return full == e.Annotations[annotationContainerd]
	}
	return name == e.Annotations[v1.AnnotationRefName] || sameReference(name, e.Annotations[annotationContainerd])
}

// layoutWriter writes files of a layout, each by rename, and remembers which are
// new.
type layoutWriter struct {
	dir string
	new []string // paths
}

func (w *layoutWriter) entries() ([]oci.Descriptor, error) {
	files, err := openLayoutFiles(w.dir)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	index, err := (Layout{Path: w.dir}).index(files)
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(w.dir, v1.ImageLayoutFile)); errors.Is(statErr, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	return index.Manifests, nil
}

// image writes the blobs of an image.
func (w *layoutWriter) image(ctx context.Context, img *Image) error {
	for n, d := range img.Manifest.Layers {
		if w.has(d) {
			continue
		}
		r, err := img.OpenLayer(ctx, n)
		if err != nil {
			return err
		}
		err = w.copy(blobName(d.Digest), r)
		r.Close()
		if err != nil {
			return err
		}
	}
	if err := w.file(blobName(img.Manifest.Config.Digest), img.RawConfig); err != nil {
		return err
	}
	return w.file(blobName(img.Digest), img.RawManifest)
}

// has reports whether the layout has the blob, bytes and all: an image that is
// written must be right even where the layout was damaged.
func (w *layoutWriter) has(d oci.Descriptor) bool {
	f, err := os.Open(filepath.Join(w.dir, blobName(d.Digest)))
	if err != nil {
		return false
	}
	v := verify(f, d, "")
	defer v.Close()
	_, err = io.Copy(io.Discard, v)
	return err == nil
}

func (w *layoutWriter) file(name string, b []byte) error {
	return w.write(name, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

func (w *layoutWriter) copy(name string, r io.Reader) error {
	return w.write(name, func(f *os.File) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{f}, r, make([]byte, 1<<20))
		return err
	})
}

func (w *layoutWriter) write(name string, fill func(*os.File) error) error {
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		w.new = append(w.new, path)
	}
	return writeByRename(path, fill)
}

// clearUnfinished removes what a writer that was killed left under temporary
// names. The lock says that no other writer is at work.
func (w *layoutWriter) clearUnfinished() error {
	for _, pattern := range []string{"blobs/sha256/.*", "." + v1.ImageLayoutFile + ".*", "." + v1.ImageIndexFile + ".*"} {
		left, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// undo removes the files that were not there before.
func (w *layoutWriter) undo() error {
	var errs []error
	for _, path := range w.new {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	// An existing directory that was empty becomes so again; others stay.
	for _, sub := range []string{"blobs/sha256", "blobs"} {
		os.Remove(filepath.Join(w.dir, sub))
	}
	return errors.Join(errs...)
}

// collect removes the blobs that dropped entries used and no other does. What
// cannot be read as an image is left alone.
func (w *layoutWriter) collect(entries, dropped []oci.Descriptor) error {
	if len(dropped) == 0 {
		return nil
	}
	files, err := openLayoutFiles(w.dir)
	if err != nil {
		return err
	}
	defer files.Close()
	used, complete := reachable(files, entries)
	if !complete {
		return nil
	}
	gone, _ := reachable(files, dropped)
	for d := range gone {
		if used[d] {
			continue
		}
		if err := os.Remove(filepath.Join(w.dir, blobName(d))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// reachable collects the digests of all blobs that entries lead to. It is not
// complete when one of them could not be read.
func reachable(files layoutFiles, entries []oci.Descriptor) (found map[oci.Digest]bool, complete bool) {
	found, complete = map[oci.Digest]bool{}, true
	queue := append([]oci.Descriptor(nil), entries...)
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if found[d.Digest] {
			continue
		}
		found[d.Digest] = true
		raw, err := readSmall(files, blobName(d.Digest), maxManifest)
		if err != nil {
			complete = false
			continue
		}
		// One shape holds both kinds: an index has no layers, an image no
		// manifests.
		var m struct {
			Manifests []oci.Descriptor `json:"manifests"`
			Config    oci.Descriptor   `json:"config"`
			Layers    []oci.Descriptor `json:"layers"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			complete = false
			continue
		}
		queue = append(queue, m.Manifests...)
		for _, d := range append(m.Layers, m.Config) {
			found[d.Digest] = true
		}
	}
	return found, complete
}

// writeByRename writes a file under a temporary name next to path and renames
// it.
func writeByRename(path string, fill func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// lockDir takes the lock of a directory against other processes that write
// into it.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			f.Close()
			return nil, err
		}
	}
}

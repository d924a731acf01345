package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"stagecraft/internal/oci"
)

// Layer is a committed layer: an overlay-ready directory that never changes
// again, and what is known of it.
type Layer struct {
	ID       oci.Digest `json:"id"`               // diffID of a pulled layer, manifest digest of a built one
	Manifest oci.Digest `json:"manifest"`         // blob with its tree.Manifest
	Files    int        `json:"files"`            // entries that are not directories
	Bytes    int64      `json:"bytes"`            // of regular files, unpacked
	Created  time.Time  `json:"created"`          // when it was first committed
	Opaque   bool       `json:"opaque,omitempty"` // it hides every layer below

	Dir string `json:"-"` // absolute path of the overlay-ready directory
}

func (s *Store) layerPath(id oci.Digest) (string, error) {
	if err := id.Validate(); err != nil {
		return "", fmt.Errorf("layer %q: %w", id, err)
	}
	return filepath.Join(s.dir, "layers", id.Encoded()), nil
}

// Layer returns a committed layer, or ErrNotFound.
func (s *Store) Layer(id oci.Digest) (*Layer, error) {
	path, err := s.layerPath(id)
	if err != nil {
		return nil, err
	}
	var l Layer
	if err := readSealed(filepath.Join(path, "layer.json"), &l); err != nil {
		return nil, err
	}
	if l.ID != id {
		return nil, ErrNotFound
	}
	l.Dir = filepath.Join(path, "fs")
	if _, err := os.Stat(l.Dir); err != nil {
		return nil, notFound(err)
	}
	return &l, nil
}

// CommitLayer makes the directory tmpDir, which is from TempDir, the layer l.
// When a layer of that ID is there already, that one stays and is returned,
// and tmpDir is dropped: equal content keeps its older bytes and its older
// time, and with them every image digest made of them.
func (s *Store) CommitLayer(tmpDir string, l Layer) (*Layer, error) {
	if have, err := s.Layer(l.ID); err == nil {
		return have, removeAll(tmpDir)
	}
	if l.Created.IsZero() {
		l.Created = time.Now().UTC()
	}
	path, err := s.layerPath(l.ID)
	if err != nil {
		return nil, err
	}
	stage, err := s.TempDir("layer")
	if err != nil {
		return nil, err
	}
	defer removeAll(stage)
	if err := os.Rename(tmpDir, filepath.Join(stage, "fs")); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	if err := s.writeSealed(filepath.Join(stage, "layer.json"), &l); err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	err = os.Rename(stage, path)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if have, err := s.Layer(l.ID); err == nil {
			return have, nil
		}
		// What stands there is damaged: it is moved out of the way, and goes
		// with the lease.
		if err := os.Rename(path, s.tempPath("damaged")); err != nil {
			return nil, fmt.Errorf("commit layer: %w", err)
		}
		err = os.Rename(stage, path)
	}
	if err != nil {
		return nil, fmt.Errorf("commit layer: %w", err)
	}
	l.Dir = filepath.Join(path, "fs")
	return &l, nil
}

// RemoveLayer drops a layer that was found to be damaged, so that the step
// which made it runs again.
func (s *Store) RemoveLayer(id oci.Digest) error {
	path, err := s.layerPath(id)
	if err != nil {
		return err
	}
	gone := s.tempPath("removed")
	if err := os.Rename(path, gone); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return removeAll(gone)
}

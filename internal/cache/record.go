package cache

import (
	"fmt"
	"path/filepath"
	"time"

	"stagecraft/internal/oci"
)

// Record is what a step with a certain key made. It is tiny and outlives the
// layer it names.
type Record struct {
	Key      Key           `json:"key"`             // the lines behind the hash, for "why did it miss"
	Layer    oci.Digest    `json:"layer,omitempty"` // "" when the step changed nothing
	Created  time.Time     `json:"created"`         // of the layer where there is one, else of the run
	Duration time.Duration `json:"duration"`        // of the run
	Log      oci.Digest    `json:"log,omitempty"`   // blob with what the step printed
}

func (s *Store) recordPath(key oci.Digest) string {
	hex := key.Encoded()
	return filepath.Join(s.dir, "records", hex[:2], hex)
}

// Record returns what the step with that key made, or ErrNotFound.
func (s *Store) Record(key oci.Digest) (*Record, error) {
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("record %q: %w", key, err)
	}
	var r Record
	if err := readSealed(s.recordPath(key), &r); err != nil {
		return nil, err
	}
	// The file's place is only a name: what it holds must be of that key.
	if r.Key.Digest() != key {
		return nil, ErrNotFound
	}
	return &r, nil
}

// PutRecord stores r under its key.
func (s *Store) PutRecord(r *Record) error {
	if err := s.writeSealed(s.recordPath(r.Key.Digest()), r); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

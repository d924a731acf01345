package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"stagecraft/internal/oci"
)

// A fact is something small that was derived from content and would be the
// same if derived again: the diffID of a layer, the digest behind a tag.
// Losing one costs the work of deriving it.

func (s *Store) factPath(kind, key string) string {
	hex := oci.FromBytes([]byte(key)).Encoded()
	return filepath.Join(s.dir, "facts", kind, hex[:2], hex)
}

type fact struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// Fact reads the fact of that kind and key into v and reports whether it was
// there.
func (s *Store) Fact(kind, key string, v any) (bool, error) {
	f := fact{Value: v}
	err := readSealed(s.factPath(kind, key), &f)
	if errors.Is(err, ErrNotFound) || err == nil && f.Key != key {
		return false, nil
	}
	return err == nil, err
}

// PutFact stores v as the fact of that kind, a plain word, and key.
func (s *Store) PutFact(kind, key string, v any) error {
	if err := s.writeSealed(s.factPath(kind, key), &fact{Key: key, Value: v}); err != nil {
		return fmt.Errorf("write fact %s: %w", kind, err)
	}
	return nil
}

// A ref is a name that a user gave, and what it stands for.

func (s *Store) refPath(name string) string {
	return filepath.Join(s.dir, "refs", oci.FromBytes([]byte(name)).Encoded())
}

// Ref reads what the name stands for into v and reports whether it was there.
func (s *Store) Ref(name string, v any) (bool, error) {
	f := fact{Value: v}
	err := readSealed(s.refPath(name), &f)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PutRef lets name stand for v.
func (s *Store) PutRef(name string, v any) error {
	if err := s.writeSealed(s.refPath(name), &fact{Key: name, Value: v}); err != nil {
		return fmt.Errorf("write name %s: %w", name, err)
	}
	return nil
}

// DeleteRef forgets a name. An unknown one is no error.
func (s *Store) DeleteRef(name string) error {
	if err := os.Remove(s.refPath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete name %s: %w", name, err)
	}
	return nil
}

// Refs lists all names, in no order.
func (s *Store) Refs() ([]string, error) {
	dir := filepath.Join(s.dir, "refs")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	var names []string
	for _, e := range entries {
		var f fact
		if readSealed(filepath.Join(dir, e.Name()), &f) == nil {
			names = append(names, f.Key)
		}
	}
	return names, nil
}

package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"stagecraft/internal/oci"
)

// A sealed file is a JSON value behind a line with the digest of its bytes.
// Cut short or changed, it reads as absent.

// maxSealed bounds what is read of a sealed file, in bytes.
const maxSealed = 64 << 20

// writeSealed replaces path by the sealed form of v, whole or not at all.
func (s *Store) writeSealed(path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Grow(len(body) + 80)
	b.WriteString(oci.FromBytes(body).String())
	b.WriteByte('\n')
	b.Write(body)
	return s.writeFile(path, b.Bytes())
}

func (s *Store) writeFile(path string, b []byte) error {
	s.markDirty()
	tmp := s.tempPath("file")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		os.Remove(tmp)
		return err
	}
	err := os.Rename(tmp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// readSealed reads into v; it returns ErrNotFound when the file is absent or
// does not hold what was written.
func readSealed(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxSealed {
		return notFound(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return notFound(err)
	}
	sum, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || oci.FromBytes(body).String() != string(sum) {
		return ErrNotFound
	}
	if err := json.Unmarshal(body, v); err != nil {
		return ErrNotFound
	}
	return nil
}

func notFound(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return ErrNotFound
	}
	return fmt.Errorf("read store: %w", err)
}

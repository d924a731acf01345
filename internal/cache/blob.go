package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"stagecraft/internal/oci"
)

// maxSmallBlob bounds what [Store.ReadBlob] reads into memory, in bytes:
// configs, manifests and logs, never layers.
const maxSmallBlob = 256 << 20

func (s *Store) blobPath(d oci.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("blob %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("blob %s: only sha256 digests are kept", d)
	}
	return filepath.Join(s.dir, "blobs", "sha256", d.Encoded()), nil
}

// HasBlob reports whether a blob is there; its bytes are not read.
func (s *Store) HasBlob(d oci.Digest) bool {
	path, err := s.blobPath(d)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// ReadBlob returns the bytes of a small blob. A blob whose bytes do not have
// its digest is removed and is [ErrNotFound].
func (s *Store) ReadBlob(d oci.Digest) ([]byte, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, notFound(err)
	}
	if info.Size() > maxSmallBlob {
		return nil, fmt.Errorf("blob %s: %d bytes are too many to read into memory", d, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, notFound(err)
	}
	if oci.FromBytes(b) != d {
		os.Remove(path)
		return nil, ErrNotFound
	}
	return b, nil
}

// OpenBlob opens a blob for reading. Its bytes are not verified: who sends
// them on must hash them.
func (s *Store) OpenBlob(d oci.Digest) (*os.File, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, notFound(err)
	}
	return f, nil
}

// RemoveBlob drops a blob that was found to be damaged.
func (s *Store) RemoveBlob(d oci.Digest) error {
	path, err := s.blobPath(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	return nil
}

// PutBlob stores b and returns its digest.
func (s *Store) PutBlob(b []byte) (oci.Digest, error) {
	d := oci.FromBytes(b)
	path, err := s.blobPath(d)
	if err != nil {
		return "", err
	}
	// Same size is trust enough to skip the write: readers verify.
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(b)) {
		return d, nil
	}
	if err := s.writeFile(path, b); err != nil {
		return "", fmt.Errorf("write blob: %w", err)
	}
	return d, nil
}

// BlobWriter writes one blob, which appears in the store when it is committed.
type BlobWriter struct {
	s    *Store
	f    *os.File
	hash hash.Hash
	size int64
}

// NewBlob begins a blob. The caller ends it with Commit or Abort.
func (s *Store) NewBlob() (*BlobWriter, error) {
	f, err := os.OpenFile(s.tempPath("blob"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &BlobWriter{s: s, f: f, hash: sha256.New()}, nil
}

func (w *BlobWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Commit puts the blob into the store under its digest. With want set, other
// bytes than those are an error and nothing is stored. The size is in bytes.
func (w *BlobWriter) Commit(want oci.Digest) (d oci.Digest, size int64, err error) {
	d = digest.NewDigest(digest.SHA256, w.hash)
	if want != "" && d != want {
		w.Abort()
		return "", 0, fmt.Errorf("blob %s: the bytes have digest %s", want, d)
	}
	path, err := w.s.blobPath(d)
	if err == nil {
		err = w.f.Close()
	}
	if err == nil {
		w.s.markDirty()
		err = os.Rename(w.f.Name(), path)
	}
	if err != nil {
		w.Abort()
		return "", 0, fmt.Errorf("write blob %s: %w", d, err)
	}
	return d, w.size, nil
}

// Abort drops what was written. It does no harm after Commit.
func (w *BlobWriter) Abort() {
	w.f.Close()
	os.Remove(w.f.Name())
}

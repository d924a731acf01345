package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"golang.org/x/sys/unix"

	"stagecraft/internal/oci"
)

// ioBuffer is the size in bytes of the buffers that large files pass through.
const ioBuffer = 256 << 10

// hasher hashes files one after the other; it is one worker's scratch space.
type hasher struct {
	buf []byte
	sum hash.Hash
}

func newHasher() *hasher { return &hasher{buf: make([]byte, ioBuffer), sum: sha256.New()} }

// file hashes an open file that must hold exactly size bytes.
func (h *hasher) file(fd int, size int64) (oci.Digest, error) {
	h.sum.Reset()
	var total int64
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, h.buf) })
		if err != nil {
			return "", err
		}
		total += int64(n)
		h.sum.Write(h.buf[:n])
		if total > size || n == 0 && total < size {
			return "", fmt.Errorf("size changed from %d bytes while being read", size)
		}
		if n < len(h.buf) && total == size {
			return h.digest(), nil
		}
	}
}

// digest is that of all bytes written to h.sum.
func (h *hasher) digest() oci.Digest {
	var sum [sha256.Size]byte
	return formatDigest(h.sum.Sum(sum[:0]))
}

func digestBytes(b []byte) oci.Digest {
	sum := sha256.Sum256(b)
	return formatDigest(sum[:])
}

func formatDigest(sum []byte) oci.Digest {
	const prefix = "sha256:"
	var s [len(prefix) + 2*sha256.Size]byte
	copy(s[:], prefix)
	hex.Encode(s[len(prefix):], sum)
	return oci.Digest(s[:])
}

package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	"stagecraft/internal/oci"
)

// verifiedReader passes a blob through and holds it against its descriptor.
type verifiedReader struct {
	r    io.ReadCloser
	want oci.Descriptor
	name string // for errors
	hash hash.Hash
	size int64
	err  error // sticky, io.EOF when the blob was right

	// wrong, if set, is told of a blob that is not what it should be.
	wrong func(oci.Digest) error
}

func verify(r io.ReadCloser, want oci.Descriptor, name string) *verifiedReader {
	return &verifiedReader{r: r, want: want, name: name, hash: sha256.New()}
}

func (v *verifiedReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.size += int64(n)
	if corrupt := v.check(err); corrupt != nil {
		err = corrupt
		if v.wrong != nil {
			err = errors.Join(err, v.wrong(v.want.Digest))
		}
	}
	v.err = err
	return n, err
}

// check returns a *[CorruptError] when what was read so far is not the blob;
// err is that of the last read.
func (v *verifiedReader) check(err error) error {
	switch {
	case v.size > v.want.Size:
		return &CorruptError{v.name, fmt.Sprintf("is longer than its %d bytes", v.want.Size)}
	case err == io.EOF && v.size < v.want.Size:
		return &CorruptError{v.name, fmt.Sprintf("ends after %d of %d bytes", v.size, v.want.Size)}
	case err == io.EOF:
		if got := digest.NewDigest(digest.SHA256, v.hash); got != v.want.Digest {
			return &CorruptError{v.name, "its bytes have digest " + got.String()}
		}
	}
	return nil
}

func (v *verifiedReader) Close() error { return v.r.Close() }

// readVerified reads a small blob whole. Its size is bounded by limit, whatever
// the descriptor says.
func readVerified(r io.ReadCloser, d oci.Descriptor, limit int64, name string) ([]byte, error) {
	defer r.Close()
	if d.Size > limit {
		return nil, &InvalidError{name, fmt.Sprintf("%d bytes are more than the limit of %d", d.Size, limit)}
	}
	return io.ReadAll(verify(r, d, name))
}

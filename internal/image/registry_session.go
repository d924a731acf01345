package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"stagecraft/internal/oci"
)

// session is an authenticated way to one repository.
type session struct {
	endpoint
	r      *Registry
	ref    string // for errors
	base   string // URL up to the repository
	client *http.Client
}

// session returns the session of an endpoint, asking the host for its way of
// authentication when it is new.
func (r *Registry) session(ctx context.Context, e endpoint, ref oci.Reference) (*session, error) {
	r.mu.Lock()
	s := r.sessions[e]
	r.mu.Unlock()
	if s != nil {
		return s.named(ref), nil
	}
	var options []name.Option
	if e.plain {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(e.host, options...)
	if err != nil {
		return nil, &InvalidError{"image " + ref.String(), err.Error()}
	}
	repo := reg.Repo(e.repo)
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(r.o.Tries)*r.o.Stall, errStalled)
	defer cancel()
	rt, err := transport.NewWithContext(ctx, reg, authn.Anonymous, r.transport, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, registryError(ctx, ref.String(), e.host, "the repository "+e.repo, err)
	}
	s = &session{
		endpoint: e,
		r:        r,
		// The transport puts in the scheme that the host answered to.
		base:   fmt.Sprintf("%s://%s/v2/%s", reg.Scheme(), reg.RegistryStr(), e.repo),
		client: &http.Client{Transport: rt, CheckRedirect: checkRedirect},
	}
	r.mu.Lock()
	r.sessions[e] = s
	r.mu.Unlock()
	return s.named(ref), nil
}

// named is the session for requests on behalf of ref.
func (s *session) named(ref oci.Reference) *session {
	c := *s
	c.ref = ref.String()
	return &c
}

// get begins a request whose body ends with errStalled when nothing comes.
func (s *session) get(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := s.client.Do(req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = newStallReader(ctx, resp.Body, cancel, s.r.o.Stall)
	return resp, nil
}

// manifest fetches a manifest by tag or digest. With want set its bytes must
// have that digest.
func (s *session) manifest(ctx context.Context, identifier string, want oci.Digest) (raw []byte, mediaType string, err error) {
	what := "manifest " + identifier
	resp, err := s.get(ctx, s.base+"/manifests/"+identifier, http.Header{"Accept": {manifestTypes}})
	if err != nil {
		return nil, "", registryError(ctx, s.ref, s.host, what, err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, "", registryError(ctx, s.ref, s.host, what, err)
	}
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return nil, "", s.bodyError(ctx, err)
	}
	if len(raw) > maxManifest {
		return nil, "", &InvalidError{what + " of " + s.ref, fmt.Sprintf("is larger than the limit of %d bytes", maxManifest)}
	}
	if got := oci.FromBytes(raw); want != "" && got != want {
		return nil, "", &CorruptError{what + " of " + s.ref, "its bytes have digest " + got.String()}
	}
	return raw, resp.Header.Get("Content-Type"), nil
}

// bodyError is the error of reading a response to its end.
func (s *session) bodyError(ctx context.Context, err error) error {
	var corrupt *CorruptError
	var invalid *InvalidError
	if errors.As(err, &corrupt) || errors.As(err, &invalid) {
		return err
	}
	return registryError(ctx, s.ref, s.host, "", err)
}

// openBlob opens a blob. A connection that breaks is taken up again where it
// broke.
func (s *session) openBlob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	b := &blobReader{s: s, ctx: ctx, d: d, tries: s.r.o.Tries, again: maxResumes}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob over as many connections as it takes.
type blobReader struct {
	s     *session
	ctx   context.Context
	d     oci.Descriptor
	body  io.ReadCloser
	off   int64 // bytes handed out
	tries int   // left without progress
	again int   // connections left after the first
}

// maxResumes bounds the connections for one blob: a server that hands out a few
// bytes on each must not keep us for ever.
const maxResumes = 100

// open makes a connection that continues at b.off.
func (b *blobReader) open() error {
	what := "blob " + b.d.Digest.String()
	header := http.Header{}
	if b.off > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.off, b.d.Size-1))
	}
	resp, err := b.s.get(b.ctx, b.s.base+"/blobs/"+b.d.Digest.String(), header)
	if err != nil {
		return registryError(b.ctx, b.s.ref, b.s.host, what, err)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return registryError(b.ctx, b.s.ref, b.s.host, what, err)
	}
	if resp.StatusCode == http.StatusOK && b.off > 0 {
		// The server knows no ranges: what we have is read again.
		if _, err := io.CopyN(io.Discard, resp.Body, b.off); err != nil {
			resp.Body.Close()
			return registryError(b.ctx, b.s.ref, b.s.host, what, err)
		}
	}
	b.body = resp.Body
	return nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.off += int64(n)
		if n > 0 {
			b.tries = b.s.r.o.Tries
		}
		if err == nil || err == io.EOF && b.off >= b.d.Size {
			return n, err
		}
		if n > 0 {
			return n, nil // the next read meets the error again
		}
		b.tries--
		b.again--
		if b.tries <= 0 || b.again <= 0 || err != io.EOF && !transient(err) || b.ctx.Err() != nil {
			return 0, b.readError(err)
		}
		b.body.Close()
		if err := sleep(b.ctx, b.s.r.o.Backoff); err != nil {
			return 0, err
		}
		if openErr := b.open(); openErr != nil {
			b.body = io.NopCloser(brokenReader{err})
			return 0, b.readError(err)
		}
	}
}

// readError leaves io.EOF to the verifier, which knows how to put it: the blob
// at the registry is too short.
func (b *blobReader) readError(err error) error {
	if err == io.EOF {
		return err
	}
	if b.ctx.Err() == nil && errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{"blob " + b.d.Digest.String() + " of " + b.s.ref,
			fmt.Sprintf("%s ends it after %d of %d bytes", b.s.host, b.off, b.d.Size)}
	}
	return registryError(b.ctx, b.s.ref, b.s.host, "", err)
}

func (b *blobReader) Close() error { return b.body.Close() }

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

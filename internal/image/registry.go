package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
)

// RegistryOptions is how a [Registry] behaves. The zero value is the default.
type RegistryOptions struct {
	Config  *Config       // mirrors and insecure hosts
	Tries   int           // of one request; 0: 4
	Backoff time.Duration // before the second try, doubling; 0: half a second
	Stall   time.Duration // how long a registry may say nothing; 0: a minute
}

// Registry pulls images from registries, anonymously. It is safe for use by
// many goroutines.
type Registry struct {
	o         RegistryOptions
	config    Config
	transport http.RoundTripper

	mu       sync.Mutex
	sessions map[endpoint]*session
}

var _ Source = (*Registry)(nil)

// NewRegistry makes a client. Nothing is contacted before it is used.
func NewRegistry(o RegistryOptions) *Registry {
	if o.Tries == 0 {
		o.Tries = 4
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	r := &Registry{o: o, sessions: map[endpoint]*session{}}
	if o.Config != nil {
		r.config = *o.Config
	}
	plain := map[string]bool{}
	for host, c := range r.config.Registry {
		plain[host] = c.Insecure
		for _, m := range c.Mirrors {
			if m, err := parseMirror(m); err == nil && m.http {
				plain[m.host] = true
			}
		}
	}
	r.transport = newTransport(o, func(host string) bool { return plain[host] || isLoopback(host) })
	return r
}

// endpoint is a repository at a host: the registry's own or a mirror's.
type endpoint struct {
	host  string
	repo  string
	plain bool // HTTP may be tried
}

// endpoints are where ref can be had, in the order in which to ask.
func (r *Registry) endpoints(ref oci.Reference) ([]endpoint, error) {
	c := r.config.Registry[ref.Host()]
	var all []endpoint
	for _, text := range c.Mirrors {
		m, err := parseMirror(text)
		if err != nil {
			return nil, err
		}
		all = append(all, endpoint{m.host, path.Join(m.prefix, ref.Path()), m.http || isLoopback(m.host)})
	}
	return append(all, endpoint{ref.Host(), ref.Path(), c.Insecure || isLoopback(ref.Host())}), nil
}

// Resolve asks the mirrors of the reference's registry, then the registry
// itself. It fetches the manifest and the config.
func (r *Registry) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*Image, error) {
	return each(r, ref, func(e endpoint) (*Image, error) { return r.resolveAt(ctx, e, ref, p) })
}

// each asks one endpoint of ref after the other. When all have failed, the
// error is that of the registry itself, with what its mirrors said.
func each[T any](r *Registry, ref oci.Reference, ask func(endpoint) (T, error)) (v T, err error) {
	endpoints, err := r.endpoints(ref)
	if err != nil {
		return v, err
	}
	var mirrors []string
	for n, e := range endpoints {
		v, err = ask(e)
		if err == nil || n == len(endpoints)-1 || !tryNext(err) {
			break
		}
		mirrors = append(mirrors, fmt.Sprintf("mirror %s: %v", e.host, mirrorCause(err)))
	}
	return v, withMirrors(err, mirrors)
}

// tryNext reports whether another endpoint may know better.
func tryNext(err error) bool {
	var nf *NotFoundError
	var denied *DeniedError
	var down *UnreachableError
	return errors.As(err, &nf) || errors.As(err, &denied) || errors.As(err, &down)
}

// resolveAt resolves ref at one endpoint.
func (r *Registry) resolveAt(ctx context.Context, e endpoint, ref oci.Reference, p oci.Platform) (*Image, error) {
	s, err := r.session(ctx, e, ref)
	if err != nil {
		return nil, err
	}
	identifier := ref.Tag()
	if ref.Digest() != "" {
		if err := checkDigest(ref.Digest()); err != nil {
			return nil, &InvalidError{"image " + ref.String(), err.Error()}
		}
		identifier = ref.Digest().String()
	}
	raw, mediaType, err := s.manifest(ctx, identifier, ref.Digest())
	if err != nil {
		return nil, err
	}
	index, err := isIndex(ref.String(), mediaType, raw)
	if err != nil {
		return nil, err
	}
	if index {
		list, err := parseIndex(ref.String(), raw)
		if err != nil {
			return nil, err
		}
		d, err := choosePlatform(ref.String(), list, p)
		if err != nil {
			return nil, err
		}
		if raw, _, err = s.manifest(ctx, d.Digest.String(), d.Digest); err != nil {
			return nil, err
		}
	}
	m, err := parseManifest(ref.String(), raw)
	if err != nil {
		return nil, err
	}
	blob, err := s.openBlob(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	config, err := readVerified(blob, m.Config, maxConfig, "config "+m.Config.Digest.String()+" of "+ref.String())
	if err != nil {
		return nil, s.bodyError(ctx, err)
	}
	return newImage(ref.String(), raw, config, &registryBlobs{r: r, ref: ref, first: s})
}

// registryBlobs opens the layers of an image where its manifest came from, else
// wherever the reference can be had.
type registryBlobs struct {
	r     *Registry
	ref   oci.Reference
	first *session // nil for a remembered image
}

func (b *registryBlobs) openBlob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if b.first != nil {
		blob, err := b.first.openBlob(ctx, d)
		if err == nil || !tryNext(err) {
			return blob, err
		}
	}
	return each(b.r, b.ref, func(e endpoint) (io.ReadCloser, error) {
		s, err := b.r.session(ctx, e, b.ref)
		if err != nil {
			return nil, err
		}
		return s.openBlob(ctx, d)
	})
}

// manifestTypes is what we can read, for the Accept header.
var manifestTypes = strings.Join([]string{
	v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, dockerManifestList, dockerManifest,
}, ", ")

// registryError makes an error of this package out of one from a request.
func registryError(ctx context.Context, ref, host, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("image %s: %w", ref, context.Cause(ctx))
	}
	var te *transport.Error
	if !errors.As(err, &te) {
		return &UnreachableError{Ref: ref, Host: host, Err: plainCause(err)}
	}
	switch te.StatusCode {
	case http.StatusNotFound:
		return &NotFoundError{Ref: ref, Reason: fmt.Sprintf("%s is unknown at %s", what, host)}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &DeniedError{Ref: ref, Host: host}
	case http.StatusTooManyRequests:
		return &UnreachableError{Ref: ref, Host: host, Err: errors.New("too many requests (429), also after waiting")}
	}
	return &UnreachableError{Ref: ref, Host: host,
		Err: fmt.Errorf("it answered %d %s", te.StatusCode, http.StatusText(te.StatusCode))}
}

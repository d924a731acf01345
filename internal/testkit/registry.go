package testkit

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is an image registry on a loopback port, in memory, which counts
// what it is asked and fails on request.
type Registry struct {
	Host string // "127.0.0.1:PORT", the first part of image names

	server *httptest.Server
	inner  http.Handler

	mu     sync.Mutex
	faults []*Fault
	count  Requests
	token  bool
}

// Requests counts the GET and HEAD requests that a [Registry] had, those of
// pushes left out.
type Requests struct {
	Pings, Tokens, Manifests, Blobs int
}

// Total is the number of all requests.
func (r Requests) Total() int { return r.Pings + r.Tokens + r.Manifests + r.Blobs }

// Fault is a way in which a [Registry] fails. Path says which requests: those
// whose URL path contains it; "" is all.
type Fault struct {
	Path  string // "/manifests/", "/blobs/", "/v2/", a digest
	Times int    // how often, after which requests go well; 0: always

	Status     int           // answer with this HTTP status
	RetryAfter int           // seconds, sent with Status when not 0
	Reset      bool          // close the connection without an answer
	Delay      time.Duration // wait before the answer
	Flip       bool          // change one byte of the body
	Short      int64         // send only so many bytes, as if that were all; 0: all
	Cut        int64         // close the connection after so many bytes; 0: never
	Stall      int64         // send nothing more after so many bytes; 0: never
}

// NewRegistry starts a registry, which ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	r.server = httptest.NewServer(r)
	r.Host = strings.TrimPrefix(r.server.URL, "http://")
	t.Cleanup(r.Close)
	return r
}

// Close takes the registry down: connections are refused from then on.
func (r *Registry) Close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Fail adds a fault. The first that fits a request decides.
func (r *Registry) Fail(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// RequireToken makes the registry ask for a bearer token, which it gives to
// everyone.
func (r *Registry) RequireToken() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token = true
}

// Requests returns the counts since the last call and starts anew.
func (r *Registry) Requests() Requests {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.count
	r.count = Requests{}
	return c
}

// Push puts an image into the registry under a name such as "app:1" and returns
// its full name.
func (r *Registry) Push(t testing.TB, repo string, img v1.Image) string {
	t.Helper()
	full := r.Host + "/" + repo
	if err := remote.Write(r.reference(t, full), img, remote.WithTransport(asPusher{})); err != nil {
		t.Fatalf("push %s: %v", full, err)
	}
	return full
}

// PushIndex puts an index and its images into the registry and returns the full
// name.
func (r *Registry) PushIndex(t testing.TB, repo string, index v1.ImageIndex) string {
	t.Helper()
	full := r.Host + "/" + repo
	if err := remote.WriteIndex(r.reference(t, full), index, remote.WithTransport(asPusher{})); err != nil {
		t.Fatalf("push %s: %v", full, err)
	}
	return full
}

// PutManifest stores any bytes as a manifest, such as one that no client would
// push.
func (r *Registry) PutManifest(t testing.TB, repo, tag, mediaType string, raw []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, r.server.URL+"/v2/"+repo+"/manifests/"+tag, strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := asPusher{}.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("put manifest %s:%s: %s", repo, tag, resp.Status)
	}
}

func (r *Registry) reference(t testing.TB, full string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(full)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pusherHeader marks the requests of pushes, which neither count nor fail.
const pusherHeader = "Stagecraft-Testkit-Push"

type asPusher struct{}

func (asPusher) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(pusherHeader, "1")
	return http.DefaultTransport.RoundTrip(req)
}

// ServeHTTP answers a request, or fails.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get(pusherHeader) != "" {
		r.inner.ServeHTTP(w, req)
		return
	}
	fault, token := r.note(req)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-req.Context().Done():
			return
		}
	}
	switch {
	case fault.Reset:
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		w.WriteHeader(fault.Status)
	case req.URL.Path == "/token":
		io.WriteString(w, `{"token": "anonymous"}`)
	case token && req.Header.Get("Authorization") != "Bearer anonymous":
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.server.URL+`/token",service="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		r.answer(w, req, fault)
	}
}

// note counts a request and finds its fault.
func (r *Registry) note(req *http.Request) (fault Fault, token bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch path := req.URL.Path; {
	case path == "/token":
		r.count.Tokens++
	case strings.Contains(path, "/manifests/"):
		r.count.Manifests++
	case strings.Contains(path, "/blobs/"):
		r.count.Blobs++
	default:
		r.count.Pings++
	}
	for n, f := range r.faults {
		if !strings.Contains(req.URL.Path, f.Path) {
			continue
		}
		fault = *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				r.faults = append(r.faults[:n], r.faults[n+1:]...)
			}
		}
		break
	}
	return fault, r.token
}

// answer passes the answer of the real registry on, bent by the fault.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, fault Fault) {
	if !fault.Flip && fault.Short == 0 && fault.Cut == 0 && fault.Stall == 0 {
		r.inner.ServeHTTP(w, req)
		return
	}
	// A blob that is damaged is damaged for those who ask for a part of it, too.
	req.Header.Del("Range")
	rec := httptest.NewRecorder()
	r.inner.ServeHTTP(rec, req)
	body := rec.Body.Bytes()
	if fault.Flip && len(body) > 0 {
		body[len(body)/2] ^= 0x40
	}
	if fault.Short > 0 {
		body = body[:min(fault.Short, int64(len(body)))]
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(rec.Code)
	stop := fault.Cut + fault.Stall
	if stop == 0 || stop >= int64(len(body)) {
		w.Write(body)
		return
	}
	w.Write(body[:stop])
	w.(http.Flusher).Flush()
	if fault.Stall > 0 {
		<-req.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

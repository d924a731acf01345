package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxRetryAfter bounds how long a registry may ask us to wait, per try.
const maxRetryAfter = 30 * time.Second

// newTransport is the connection to registries below authentication: timeouts,
// retries, and no plain HTTP but where it is allowed.
func newTransport(o RegistryOptions, plainOK func(host string) bool) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &retryTransport{
		inner: &plainHTTPGuard{
			allowed: plainOK,
			inner: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           dialer.DialContext,
				ForceAttemptHTTP2:     true,
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: o.Stall,
				IdleConnTimeout:       30 * time.Second,
				MaxIdleConnsPerHost:   8,
				DisableCompression:    true, // layers are compressed, and hashed as they are
			},
		},
		tries:   o.Tries,
		backoff: o.Backoff,
	}
}

// plainHTTPGuard refuses unencrypted requests, those of redirects and token
// servers included, but to hosts for which they are allowed.
type plainHTTPGuard struct {
	inner   http.RoundTripper
	allowed func(host string) bool
}

func (g *plainHTTPGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.allowed(req.URL.Host) {
		return nil, fmt.Errorf("plain HTTP to %s is not allowed (set insecure = true for the registry in the configuration)", req.URL.Host)
	}
	return g.inner.RoundTrip(req)
}

// isLoopback reports whether host, with or without a port, is this machine.
func isLoopback(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkRedirect lets a registry send us on to its storage, but not from a
// public host to an address inside the user's own network.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	inside := func(u *url.URL) bool {
		ip, err := netip.ParseAddr(u.Hostname())
		return err == nil && (ip.Unmap().IsPrivate() || ip.Unmap().IsLoopback() || ip.Unmap().IsLinkLocalUnicast())
	}
	if from := via[0].URL; inside(req.URL) && !inside(from) && !isLoopback(from.Host) {
		return fmt.Errorf("redirect from %s to the private address %s refused", from.Host, req.URL.Host)
	}
	return nil
}

// retryTransport repeats requests that failed in a way that passes: too many
// requests, server errors, broken connections. Only requests without a body
// pass through it.
type retryTransport struct {
	inner   http.RoundTripper
	tries   int
	backoff time.Duration // before the second try; doubles
}

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	wait := t.backoff
	for try := 1; ; try++ {
		resp, err := t.inner.RoundTrip(req)
		if try >= t.tries || !worthRetry(resp, err) || req.Context().Err() != nil {
			return resp, err
		}
		pause := wait/2 + rand.N(wait/2+1)
		if resp != nil {
			pause = max(pause, retryAfter(resp))
			io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
			resp.Body.Close()
		}
		if err := sleep(req.Context(), pause); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

func worthRetry(resp *http.Response, err error) bool {
	if err != nil {
		return transient(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// transient reports whether a connection broke that had been made. One that
// cannot be made, refused or never answered, says that there is no registry,
// which is told to the user at once.
func transient(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	var ne net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &ne) && ne.Timeout()
}

// retryAfter is what the server asks for, in seconds; dates are not honoured.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errStalled = errors.New("no data arrives any more")

// stallReader ends a response body from which nothing comes for a while.
type stallReader struct {
	body   io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	after  time.Duration
	timer  *time.Timer
}

func newStallReader(ctx context.Context, body io.ReadCloser, cancel context.CancelCauseFunc, after time.Duration) *stallReader {
	s := &stallReader{body: body, ctx: ctx, cancel: cancel, after: after}
	s.timer = time.AfterFunc(after, func() { cancel(errStalled) })
	return s
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.timer.Reset(s.after)
	n, err := s.body.Read(p)
	s.timer.Stop() // the reader may take its time
	if err != nil && err != io.EOF && context.Cause(s.ctx) == errStalled {
		err = errStalled
	}
	return n, err
}

func (s *stallReader) Close() error {
	s.timer.Stop()
	err := s.body.Close()
	s.cancel(nil)
	return err
}

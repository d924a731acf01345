package image

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	v1spec "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

func TestRegistryResolvesLazily(t *testing.T) {
	reg, name, pushedImage := pushed(t, testkit.ImageOptions{Seed: 1, Layers: 3})
	img := resolve(t, client(nil), name)
	if img.Digest != digestOf(t, pushedImage) {
		t.Errorf("digest %s, want %s", img.Digest, digestOf(t, pushedImage))
	}
	if got := reg.Requests(); got.Manifests != 1 || got.Blobs != 1 {
		t.Errorf("resolving took %+v, want one manifest and the config", got)
	}
	if len(img.LayerIDs) != 3 || img.Config.Architecture != "amd64" {
		t.Errorf("image has %d layers for %s", len(img.LayerIDs), img.Config.Architecture)
	}
	for n, d := range img.Manifest.Layers {
		b, err := layerBytes(t.Context(), img, n)
		if err != nil {
			t.Fatal(err)
		}
		if oci.FromBytes(b) != d.Digest {
			t.Errorf("layer %d: wrong bytes", n)
		}
	}
	if err := ValidateImage(t.Context(), img); err != nil {
		t.Error(err)
	}
}

func TestRegistryKinds(t *testing.T) {
	for name, o := range map[string]testkit.ImageOptions{
		"docker schema 2": {Seed: 2, Docker: true},
		"zstd":            {Seed: 3, Zstd: true},
		"no layers":       {Tars: [][]byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, name, _ := pushed(t, o)
			if err := ValidateImage(t.Context(), resolve(t, client(nil), name)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRegistryBearerToken(t *testing.T) {
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
	reg.RequireToken()
	src := client(nil)
	img := resolve(t, src, name)
	if _, err := layerBytes(t.Context(), img, 0); err != nil {
		t.Fatal(err)
	}
	resolve(t, src, name)
	if got := reg.Requests(); got.Tokens != 1 || got.Pings != 1 {
		t.Errorf("%+v, want one ping and one token for all requests", got)
	}
}

func TestRegistryChoosesPlatform(t *testing.T) {
	reg := testkit.NewRegistry(t)
	arm := testkit.Image(t, testkit.ImageOptions{Seed: 1, Architecture: "arm64"})
	amd := testkit.Image(t, testkit.ImageOptions{Seed: 2})
	name := reg.PushIndex(t, "multi:1", testkit.Index(t, arm, amd))
	if img := resolve(t, client(nil), name); img.Digest != digestOf(t, amd) {
		t.Errorf("got %s, want the amd64 image", img.Digest)
	}
	_, err := client(nil).Resolve(t.Context(), parseRef(t, name), oci.Platform{OS: "linux", Architecture: "s390x"})
	nf := wantError[*NotFoundError](t, err)
	if !strings.Contains(nf.Reason, "linux/arm64") || !strings.Contains(nf.Reason, "linux/amd64") {
		t.Errorf("%q does not list the platforms that exist", nf.Reason)
	}
}

func TestRegistryPinnedDigest(t *testing.T) {
	reg, name, img := pushed(t, testkit.ImageOptions{Seed: 1})
	pinned := name + "@" + digestOf(t, img).String()
	if got := resolve(t, client(nil), pinned); got.Digest != digestOf(t, img) {
		t.Errorf("got %s", got.Digest)
	}
	reg.Fail(testkit.Fault{Path: "/manifests/", Flip: true})
	_, err := client(nil).Resolve(t.Context(), parseRef(t, pinned), amd64)
	wantError[*CorruptError](t, err)
}

func TestRegistryErrors(t *testing.T) {
	tests := map[string]struct {
		fault testkit.Fault
		want  func(testing.TB, error)
	}{
		"manifest unknown": {testkit.Fault{Path: "/manifests/", Status: 404}, isA[*NotFoundError]},
		"denied":           {testkit.Fault{Path: "/manifests/", Status: 401}, isA[*DeniedError]},
		"forbidden":        {testkit.Fault{Path: "/manifests/", Status: 403}, isA[*DeniedError]},
		"server error":     {testkit.Fault{Status: 503}, isA[*UnreachableError]},
		"too many":         {testkit.Fault{Path: "/manifests/", Status: 429}, isA[*UnreachableError]},
		"reset":            {testkit.Fault{Reset: true}, isA[*UnreachableError]},
		"silent":           {testkit.Fault{Path: "/manifests/", Stall: 10}, isA[*UnreachableError]},
		"config changed":   {testkit.Fault{Path: "/blobs/", Flip: true}, isA[*CorruptError]},
		"config short":     {testkit.Fault{Path: "/blobs/", Short: 20}, isA[*CorruptError]},
		"not JSON":         {testkit.Fault{Path: "/manifests/", Short: 20}, isA[*InvalidError]},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
			reg.Fail(test.fault)
			_, err := client(nil).Resolve(t.Context(), parseRef(t, name), amd64)
			if err == nil {
				t.Fatal("resolved")
			}
			test.want(t, err)
			if !strings.Contains(err.Error(), "team/app:1") {
				t.Errorf("%q does not name the image", err)
			}
		})
	}
}

func isA[T error](t testing.TB, err error) { wantError[T](t, err) }

func TestRegistryDown(t *testing.T) {
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
	reg.Close()
	start := time.Now()
	_, err := client(nil).Resolve(t.Context(), parseRef(t, name), amd64)
	down := wantError[*UnreachableError](t, err)
	if down.Host != reg.Host {
		t.Errorf("host %q, want %q", down.Host, reg.Host)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v to say so", d)
	}
}

func TestRegistryRetries(t *testing.T) {
	for name, fault := range map[string]testkit.Fault{
		"429":   {Status: http.StatusTooManyRequests, Times: 2},
		"502":   {Status: http.StatusBadGateway, Times: 2},
		"reset": {Path: "/manifests/", Reset: true, Times: 2},
		"slow":  {Path: "/manifests/", Delay: 400 * time.Millisecond, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
			reg.Fail(fault)
			resolve(t, client(nil), name)
		})
	}
}

func TestRegistryHonoursRetryAfter(t *testing.T) {
	reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 1})
	reg.Fail(testkit.Fault{Path: "/manifests/", Status: 429, RetryAfter: 1, Times: 1})
	start := time.Now()
	resolve(t, client(nil), name)
	if d := time.Since(start); d < time.Second {
		t.Errorf("asked again after %v, the registry wanted 1s", d)
	}
}

func TestRegistryLayerFaults(t *testing.T) {
	tests := map[string]struct {
		fault testkit.Fault
		want  func(testing.TB, error) // nil: the layer is right in the end
	}{
		"cut once":    {testkit.Fault{Cut: 1000, Times: 1}, nil},
		"cut twice":   {testkit.Fault{Cut: 1000, Times: 2}, nil},
		"stall once":  {testkit.Fault{Stall: 1000, Times: 1}, nil},
		"short once":  {testkit.Fault{Short: 1000, Times: 1}, nil},
		"changed":     {testkit.Fault{Flip: true}, isA[*CorruptError]},
		"short":       {testkit.Fault{Short: 1000}, isA[*CorruptError]},
		"missing":     {testkit.Fault{Status: 404}, isA[*NotFoundError]},
		"unavailable": {testkit.Fault{Status: 503}, isA[*UnreachableError]},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, name, _ := pushed(t, testkit.ImageOptions{Seed: 7, Layers: 1, Files: 20})
			img := resolve(t, client(nil), name)
			want := img.Manifest.Layers[0]
			test.fault.Path = want.Digest.Encoded()
			reg.Fail(test.fault)
			b, err := layerBytes(t.Context(), img, 0)
			if test.want != nil {
				test.want(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if oci.FromBytes(b) != want.Digest {
				t.Error("wrong bytes without an error")
			}
		})
	}
}

func TestRegistryRefusesManifests(t *testing.T) {
	reg := testkit.NewRegistry(t)
	put := func(tag, mediaType, raw string) string {
		reg.PutManifest(t, "odd", tag, mediaType, []byte(raw))
		return reg.Host + "/odd:" + tag
	}
	zero := strings.Repeat("0", 64)
	for name, want := range map[string]string{
		put("schema1", dockerSchema1+"+prettyjws", `{"schemaVersion": 1, "fsLayers": []}`):                              "schema 1",
		put("both", v1spec.MediaTypeImageManifest, `{"schemaVersion": 2, "config": {}, "layers": [], "manifests": []}`): "can be read as",
		put("helm", v1spec.MediaTypeImageManifest, `{"schemaVersion": 2, "config": {"digest": "sha256:`+zero+`"},
			"layers": [{"mediaType": "application/vnd.cncf.helm.chart", "digest": "sha256:`+zero+`"}]}`): "no file system layer",
		put("sha512", v1spec.MediaTypeImageManifest, `{"schemaVersion": 2, "config": {"digest": "sha512:`+zero+zero+`"}, "layers": []}`): "only sha256",
		put("large", v1spec.MediaTypeImageManifest, string(bytes.Repeat([]byte(" "), maxManifest+1))):                                    "larger than",
	} {
		_, err := client(nil).Resolve(t.Context(), parseRef(t, name), amd64)
		if e := wantError[*InvalidError](t, err); !strings.Contains(e.Error(), want) {
			t.Errorf("%s: %q does not say %q", name, e, want)
		}
	}
}

func TestMirrors(t *testing.T) {
	good, bad := testkit.NewRegistry(t), testkit.NewRegistry(t)
	img := testkit.Image(t, testkit.ImageOptions{Seed: 1})
	good.Push(t, "hub/library/debian:12", img)
	bad.Close()
	config := &Config{Registry: map[string]RegistryConfig{
		"docker.io": {Mirrors: []string{"http://" + bad.Host, "http://" + good.Host + "/hub"}},
	}}
	got := resolve(t, client(config), "debian:12")
	if got.Digest != digestOf(t, img) || got.Ref != "docker.io/library/debian:12" {
		t.Errorf("got %s %s", got.Ref, got.Digest)
	}
	if _, err := layerBytes(t.Context(), got, 0); err != nil {
		t.Errorf("layer from the mirror: %v", err)
	}
}

func TestMirrorErrorsAreTold(t *testing.T) {
	upstream, mirror := testkit.NewRegistry(t), testkit.NewRegistry(t)
	config := &Config{Registry: map[string]RegistryConfig{
		upstream.Host: {Mirrors: []string{"http://" + mirror.Host}},
	}}
	_, err := client(config).Resolve(t.Context(), parseRef(t, upstream.Host+"/none:1"), amd64)
	if nf := wantError[*NotFoundError](t, err); !strings.Contains(nf.Reason, mirror.Host) {
		t.Errorf("%q does not tell of the mirror", nf.Reason)
	}
	img := testkit.Image(t, testkit.ImageOptions{Seed: 1})
	upstream.Push(t, "some:1", img)
	if got := resolve(t, client(config), upstream.Host+"/some:1"); got.Digest != digestOf(t, img) {
		t.Errorf("got %s from upstream", got.Digest)
	}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:1": true, "127.8.9.1": true, "[::1]:5000": true,
		"10.0.0.1:5000": false, "192.168.1.1": false, "example.com": false, "localhost.example.com": false, "": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %v", host, got)
		}
	}
	config := &Config{Registry: map[string]RegistryConfig{
		"lan:5000":  {Insecure: true},
		"docker.io": {Mirrors: []string{"http://mirror:80", "https://safe"}},
	}}
	guard := client(config).transport.(*retryTransport).inner.(*plainHTTPGuard)
	for host, want := range map[string]bool{"lan:5000": true, "mirror:80": true, "safe": false, "docker.io": false, "10.0.0.1": false} {
		if got := guard.allowed(host); got != want {
			t.Errorf("plain HTTP to %s: %v, want %v", host, got, want)
		}
	}
	req, err := http.NewRequest(http.MethodGet, "http://10.0.0.1:5000/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guard.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("plain HTTP to a private address: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	request := func(url string) *http.Request {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	for _, test := range []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.example.com/v2/", "https://storage.example.net/blob", true},
		{"https://registry.example.com/v2/", "http://169.254.169.254/latest", false},
		{"https://registry.example.com/v2/", "https://127.0.0.1/", false},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/", true},
		{"http://10.1.1.1/v2/", "http://10.1.1.2/", true},
	} {
		err := checkRedirect(request(test.to), []*http.Request{request(test.from)})
		if (err == nil) != test.ok {
			t.Errorf("%s to %s: %v", test.from, test.to, err)
		}
	}
}

func TestPlainHTTPServerIsNamed(t *testing.T) {
	reg := testkit.NewRegistry(t)
	_, err := http.Get("https://" + reg.Host + "/v2/")
	if err == nil {
		t.Fatal("HTTPS to a server without it")
	}
	if got := plainCause(err).Error(); !strings.Contains(got, "insecure = true") {
		t.Errorf("%q does not say what is missing", got)
	}
}

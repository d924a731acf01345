package plan

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/oci"
)

// registry is a Resolver over images that tests define, and counts what it is
// asked.
type registry struct {
	mu    sync.Mutex
	asked map[string]int
	more  map[string]oci.Image
}

func (r *registry) ResolveImage(_ context.Context, name string, p oci.Platform) (Base, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[string]int{}
	}
	r.asked[name]++
	short := strings.TrimPrefix(name, "docker.io/library/")
	image, ok := r.more[short]
	if !ok {
		image, ok = images[short]
	}
	if !ok {
		return Base{}, fmt.Errorf("%s: not found", name)
	}
	if image.OS == "" {
		image.Platform = p
	}
	return Base{Ref: name, Digest: oci.FromBytes([]byte(name)), Config: image}, nil
}

// images are what a registry has. They are read only.
var images = map[string]oci.Image{
	"debian:12": base("debian", func(c *oci.Config) {
		c.Env = []string{"PATH=/usr/bin:/bin"}
		c.Cmd = []string{"bash"}
	}),
	"golang:1.26": base("golang", func(c *oci.Config) {
		c.Env = []string{"PATH=/go/bin:/usr/bin", "GOPATH=/go"}
		c.WorkingDir = "/go"
		c.Labels = map[string]string{"maintainer": "gophers"}
	}),
	"nginx:1": base("nginx", func(c *oci.Config) {
		c.Cmd = []string{"nginx"}
		c.Entrypoint = []string{"/entry"}
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}}
		c.Volumes = map[string]struct{}{"/cache": {}}
		c.User = "www"
		c.StopSignal = "SIGQUIT"
		c.Shell = []string{"/bin/ash", "-c"}
	}),
	"onbuild:latest": base("onbuild", func(c *oci.Config) { c.OnBuild = []string{"COPY . /app", "RUN make"} }),
	"bare:latest":    {},
	"layout":         base("layout", func(c *oci.Config) { c.Env = []string{"FROM_LAYOUT=1"} }),
}

func base(name string, set func(*oci.Config)) oci.Image {
	var i oci.Image
	i.RootFS = oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{oci.FromBytes([]byte(name + " layer"))}}
	i.History = []oci.History{{CreatedBy: name}}
	set(&i.Config)
	return i
}

var amd64 = oci.Platform{OS: "linux", Architecture: "amd64"}

// planOf plans a Dockerfile for linux/amd64, whatever machine the test runs on.
func planOf(t testing.TB, text string, o Options) (*Plan, error) {
	t.Helper()
	return planWith(t, text, o, new(registry))
}

func planWith(t testing.TB, text string, o Options, r Resolver) (*Plan, error) {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		return nil, err
	}
	o.Host = amd64
	return New(t.Context(), f, o, r)
}

// mustPlan is planOf where an error fails the test.
func mustPlan(t testing.TB, text string, o Options) *Plan {
	t.Helper()
	p, err := planOf(t, text, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

package insight

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const fullstack = `FROM node:22 AS web
COPY web .
RUN npm run build
FROM golang:1.26 AS api
ARG TOKEN
COPY api .
RUN go build -o /api # $TOKEN
FROM api AS lint
RUN go vet ./...
FROM "scratch"
COPY --from=web /dist /dist
COPY --from=api /api /api
LABEL x=$nobody
`

// resolver has every image.
type resolver struct{}

func (resolver) ResolveImage(_ context.Context, name string, p oci.Platform) (plan.Base, error) {
	var i oci.Image
	i.Platform = p
	i.RootFS.DiffIDs = []oci.Digest{oci.FromBytes([]byte("layer of " + name))}
	return plan.Base{Ref: name, Digest: oci.FromBytes([]byte(name)), Config: i}, nil
}

func fullstackPlan(t *testing.T) *plan.Plan {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(fullstack))
	if err != nil {
		t.Fatal(err)
	}
	o := plan.Options{Host: oci.Platform{OS: "linux", Architecture: "amd64"}, BuildArgs: map[string]string{"TOKEN": "s3cret"}}
	p, err := plan.New(t.Context(), f, o, resolver{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRenderPlan(t *testing.T) {
	p := fullstackPlan(t)
	for _, format := range PlanFormats {
		t.Run(format, func(t *testing.T) {
			var b strings.Builder
			if err := RenderPlan(&b, p, format); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(b.String(), "s3cret") {
				t.Error("the value of a build arg is shown")
			}
			golden := filepath.Join("testdata", "plan."+format)
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
			if format == "json" && !json.Valid([]byte(b.String())) {
				t.Error("not JSON")
			}
		})
	}
}

func TestRenderPlanUnknownFormat(t *testing.T) {
	err := RenderPlan(new(strings.Builder), fullstackPlan(t), "svg")
	if err == nil || !strings.Contains(err.Error(), "mermaid") {
		t.Errorf("got %v, want an error that lists the formats", err)
	}
}

package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

// last returns the op of the target's last step.
func last[T graph.Op](t *testing.T, p *Plan) T {
	t.Helper()
	op, ok := p.Graph.Vertex(p.Target).Op.(T)
	if !ok {
		t.Fatalf("the target is made by %T", p.Graph.Vertex(p.Target).Op)
	}
	return op
}

// TestEnv shows what RUN sees, by the instructions above it.
func TestEnv(t *testing.T) {
	given := map[string]string{"GIVEN": "flag", "TARGETOS": "plan9"}
	for name, c := range map[string]struct{ src, want string }{
		"nothing":                {"FROM debian:12", ""},
		"ARG with a default":     {"FROM debian:12\nARG A=1", "A=1"},
		"ARG without one":        {"FROM debian:12\nARG A", ""},
		"flag over default":      {"FROM debian:12\nARG GIVEN=default", "GIVEN=flag"},
		"meta ARG not declared":  {"ARG A=1\nFROM debian:12", ""},
		"meta ARG declared":      {"ARG A=1\nFROM debian:12\nARG A", "A=1"},
		"own default over meta":  {"ARG A=1\nFROM debian:12\nARG A=2", "A=2"},
		"meta ARG of the flag":   {"ARG GIVEN=1\nARG B=$GIVEN-b\nFROM debian:12\nARG B", "B=flag-b"},
		"ENV over ARG":           {"FROM debian:12\nARG GIVEN\nENV GIVEN=env", "GIVEN=env"},
		"ENV from ARG":           {"FROM debian:12\nARG GIVEN\nENV A=${GIVEN:-x} B=${NONE:-x} C=${GIVEN:+y}", "GIVEN=flag A=flag B=x C=y"},
		"one ENV sees old value": {"FROM debian:12\nENV A=1\nENV A=2 B=$A", "A=2 B=1"},
		"ARG sees ARG":           {"FROM debian:12\nARG A=1\nARG B=$A", "A=1 B=1"},
		"quotes":                 {`FROM debian:12` + "\n" + `ENV A='$X' B="a b" C=a\ b D=\$X`, "A=$X B=a b C=a b D=$X"},
		"patterns":               {"FROM debian:12\nENV V=v1.2.3\nENV A=${V#v} B=${V%.*} C=${V//./_} D=${V%%.*}", "V=v1.2.3 A=1.2.3 B=v1.2 C=v1_2_3 D=v1"},
		"platform not declared":  {"FROM debian:12\nENV A=x$TARGETARCH", "A=x"},
		"platform declared":      {"FROM debian:12\nARG TARGETARCH BUILDPLATFORM TARGETVARIANT TARGETOS", "TARGETARCH=amd64 BUILDPLATFORM=linux/amd64 TARGETVARIANT= TARGETOS=plan9"},
		"ARG of a base stage":    {"FROM debian:12 AS a\nARG A=1\nFROM a", "A=1"},
		"ARG of another stage":   {"FROM debian:12 AS a\nARG A=1\nFROM debian:12", ""},
		"siblings do not meet":   {"FROM debian:12 AS a\nENV A=1\nFROM a AS b\nENV B=1 A=b\nFROM a AS c\nENV C=1\nCOPY --from=b /x /x", "A=1 C=1"},
		"target's name":          {"FROM debian:12 AS fin\nARG TARGETSTAGE", "TARGETSTAGE=fin"},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustPlan(t, c.src+"\nRUN x", Options{BuildArgs: given})
			got := strings.TrimSpace(strings.TrimPrefix(strings.Join(last[*graph.Exec](t, p).Env, " "), "PATH=/usr/bin:/bin"))
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestExpansion shows where variables are expanded and where they are not.
func TestExpansion(t *testing.T) {
	p := mustPlan(t, `FROM debian:12
ENV D=/dir U=user P=70 Q="90 91/sctp" S=SIGINT
WORKDIR $D/../w
USER $U:${U}
EXPOSE $P ${P}80/udp $Q
VOLUME $D "$D/b"
STOPSIGNAL $S
LABEL l-$U=$U q='$U'
CMD echo $U
ENTRYPOINT ["$U"]
COPY --chown=$U:1 --chmod=0${P} $D/a* $D/
`, Options{})
	c := p.Config.Config
	want := oci.Config{}
	want.Env = c.Env
	want.WorkingDir, want.User, want.StopSignal = "/dir/../w", "user:user", "SIGINT"
	want.ArgsEscaped = true
	want.ExposedPorts = map[string]struct{}{"70/tcp": {}, "7080/udp": {}, "90/tcp": {}, "91/sctp": {}}
	want.Volumes = map[string]struct{}{"/dir": {}, "/dir/b": {}}
	want.Labels = map[string]string{"l-user": "user", "q": "$U"}
	want.Cmd, want.Entrypoint = []string{"/bin/sh", "-c", "echo $U"}, []string{"$U"}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	mode := uint32(0o70)
	copied := &graph.Copy{From: 1, Sources: []string{"dir/a*"}, Dest: "/dir/", Owner: "user:1", Mode: &mode}
	if diff := cmp.Diff(copied, last[*graph.File](t, p).Actions[0]); diff != "" {
		t.Errorf("copy (-want +got):\n%s", diff)
	}
}

// TestCommandRules shows when ENTRYPOINT resets CMD.
func TestCommandRules(t *testing.T) {
	for name, c := range map[string]struct{ src, cmd, entry string }{
		"inherited":              {"FROM nginx:1", "[nginx]", "[/entry]"},
		"ENTRYPOINT alone":       {"FROM nginx:1\nENTRYPOINT [\"e\"]", "[]", "[e]"},
		"CMD alone":              {"FROM nginx:1\nCMD [\"c\"]", "[c]", "[/entry]"},
		"CMD, then ENTRYPOINT":   {"FROM nginx:1\nCMD [\"c\"]\nENTRYPOINT [\"e\"]", "[c]", "[e]"},
		"CMD in the base stage":  {"FROM nginx:1 AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"e\"]", "[]", "[e]"},
		"emptied":                {"FROM nginx:1\nENTRYPOINT []\nCMD []", "[]", "[]"},
		"shell form, base shell": {"FROM nginx:1\nCMD c d", "[/bin/ash -c c d]", "[/entry]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := mustPlan(t, c.src, Options{}).Config.Config
			if cmd, entry := fmt.Sprint(got.Cmd), fmt.Sprint(got.Entrypoint); cmd != c.cmd || entry != c.entry {
				t.Errorf("CMD %s ENTRYPOINT %s, want %s and %s", cmd, entry, c.cmd, c.entry)
			}
		})
	}
}

func TestDestination(t *testing.T) {
	for given, want := range map[string]string{
		"x": "/wd/x", "x/": "/wd/x/", ".": "/wd/", "./": "/wd/", "/": "/", "/a/../b": "/b", "/a/.": "/a/", "../c": "/c", "../../../c/": "/c/",
	} {
		p := mustPlan(t, "FROM debian:12\nWORKDIR /wd\nCOPY a "+given, Options{})
		if got := last[*graph.File](t, p).Actions[0].(*graph.Copy).Dest; got != want {
			t.Errorf("COPY a %s: goes to %s, want %s", given, got, want)
		}
	}
}

func TestSignals(t *testing.T) {
	for s, want := range map[string]bool{
		"SIGTERM": true, "term": true, "9": true, "SIGRTMIN+3": true, "RTMAX-1": true, "SIGRTMIN": true, "SIGRTMIN+15": true, "SIGRTMAX-14": true, "SIGCLD": true, "poll": true,
		"0": false, "65": false, "-1": false, "SIGRTMIN+16": false, "SIGRTMAX-15": false, "SIGRTMAX-x": false, "SIGRTMIN-1": false, "SIG": false, "": false,
	} {
		if got := isSignal(s); got != want {
			t.Errorf("isSignal(%q) = %t", s, got)
		}
	}
}

func TestUnusedBuildArgs(t *testing.T) {
	src := "ARG META\nFROM debian:12 AS skipped\nARG HIDDEN\nFROM debian:12\nARG USED"
	p := mustPlan(t, src, Options{BuildArgs: map[string]string{
		"META": "1", "USED": "1", "HTTPS_PROXY": "1", "TARGETARCH": "x", "BUILDKIT_INLINE_CACHE": "1", "HIDDEN": "1", "EXTRA": "1",
	}})
	want := []Warning{{graph.Position{File: "Dockerfile"}, "[Warning] One or more build-args [EXTRA HIDDEN] were not consumed"}}
	if diff := cmp.Diff(want, p.Warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestProxyLeavesNoTrace holds that a proxy's password reaches the process of
// a RUN and nothing that is kept.
func TestProxyLeavesNoTrace(t *testing.T) {
	p := mustPlan(t, "FROM debian:12\nRUN x", Options{BuildArgs: map[string]string{"http_proxy": "http://u:secret@p"}})
	run := last[*graph.Exec](t, p)
	if want := []string{"HTTP_PROXY=http://u:secret@p", "http_proxy=http://u:secret@p"}; !slices.Equal(run.Proxy, want) {
		t.Errorf("proxy %q", run.Proxy)
	}
	run.Proxy = nil
	if strings.Contains(dump(p), "secret") {
		t.Errorf("the password is in the plan:\n%s", dump(p))
	}
}

// TestResolving counts what the resolver is asked.
func TestResolving(t *testing.T) {
	r := new(registry)
	_, err := planWith(t, `FROM debian:12 AS a
FROM docker.io/library/debian:12 AS b
COPY --from=golang:1.26 /x /x
FROM nope AS unneeded
COPY --from=nope2 /x /x
FROM a
COPY --from=b /x /x
COPY --from=golang:1.26 /x /x
`, Options{}, r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"docker.io/library/debian:12": 1, "docker.io/library/golang:1.26": 1}
	if diff := cmp.Diff(want, r.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// TestContextNames shows by which names a context replaces an image or stage.
func TestContextNames(t *testing.T) {
	for _, c := range []struct {
		context, name string
		replaced      bool
	}{
		{"debian:12", "debian:12", true},
		{"docker.io/library/debian:12", "debian:12", true},
		{"debian:12", "docker.io/library/debian:12", true},
		{"debian", "debian:latest", true},
		{"debian:latest", "index.docker.io/debian", true},
		{"debian", "debian:12", false},
		{"ghcr.io/a/debian:12", "debian:12", false},
		{"Stage", "stage", true},
	} {
		r := &registry{more: map[string]oci.Image{"debian:latest": images["debian:12"], "stage:latest": images["debian:12"]}}
		_, err := planWith(t, "FROM "+c.name+" AS x\nFROM scratch\nCOPY --from=x / /", Options{Contexts: map[string]Context{c.context: {Image: "layout"}}}, r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.asked["layout"] == 1; got != c.replaced {
			t.Errorf("context %s replaces FROM %s: %t, want %t", c.context, c.name, got, c.replaced)
		}
	}
}

// TestReplacedStage holds that a stage which a context replaces needs nothing
// of what it was.
func TestReplacedStage(t *testing.T) {
	src := "FROM nope AS dep\nFROM nope AS build\nCOPY --from=dep /x /x\nRUN --mount=type=cache,target=/x x\nFROM scratch\nCOPY --from=build /x /x"
	p := mustPlan(t, src, Options{Contexts: map[string]Context{"build": {Image: "layout"}}})
	if p.Stages[0].Needed || !p.Stages[1].Needed || len(p.Stages[1].DependsOn) > 0 || p.Stages[1].From != "context build" {
		t.Errorf("stages %+v", p.Stages)
	}
}

// TestBaseConfigIsInherited holds that no field of a base image's config is
// lost, and that the base is not changed.
func TestBaseConfigIsInherited(t *testing.T) {
	before := dump(&Plan{Graph: new(graph.Graph), Config: images["nginx:1"]})
	p := mustPlan(t, "FROM nginx:1\nENV PATH=/bin\nLABEL a=b\nEXPOSE 1\nVOLUME /v", Options{})
	want := images["nginx:1"].Config
	got := p.Config.Config
	want.Env, want.Labels = got.Env, got.Labels
	want.ExposedPorts = map[string]struct{}{"80/tcp": {}, "1/tcp": {}}
	want.Volumes = map[string]struct{}{"/cache": {}, "/v": {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if after := dump(&Plan{Graph: new(graph.Graph), Config: images["nginx:1"]}); after != before {
		t.Error("the base image was changed")
	}
}

// TestFileIsNotChanged plans a file twice, with options that differ between.
func TestFileIsNotChanged(t *testing.T) {
	files, err := filepath.Glob("testdata/*.Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := dockerfile.Parse("Dockerfile", src)
		if err != nil {
			t.Fatal(err)
		}
		var dumps [2]string
		for i := range dumps {
			o := goldenOptions[strings.TrimSuffix(filepath.Base(name), ".Dockerfile")]
			o.Host, o.BuildArgs = amd64, map[string]string{"VERSION": "first", "LOCAL": "first"}
			p, err := New(t.Context(), f, o, new(registry))
			if err != nil {
				t.Fatal(err)
			}
			dumps[i] = dump(p)
			o.BuildArgs = map[string]string{"VERSION": "second"}
			if _, err := New(t.Context(), f, o, new(registry)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(dumps[0], dumps[1]); diff != "" {
			t.Errorf("%s (-first +second):\n%s", name, diff)
		}
	}
}

package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
)

func TestExpose(t *testing.T) {
	for spec, want := range map[string]string{ // the ports, or what the error says
		"80":                     "80/tcp",
		"53/udp":                 "53/udp",
		"53/UDP":                 "53/udp",
		"9/sctp 80":              "80/tcp 9/sctp",
		"8000-8002":              "8000/tcp 8001/tcp 8002/tcp",
		"8000-8000":              "8000/tcp",
		"0":                      "0/tcp",
		"8080:80":                "80/tcp",
		"8080-8090:80":           "80/tcp",
		"1-2:11-12":              "11/tcp 12/tcp",
		"127.0.0.1:8080:80/udp":  "80/udp",
		"127.0.0.1::80":          "80/tcp",
		"[::1]:8080:80":          "80/tcp",
		"[::1]:8080:80-81":       "not of one length",
		"$P":                     "81/tcp 82/tcp",
		"65536":                  "not a number",
		"-1":                     "not a number",
		"80-":                    "not a number",
		"/tcp":                   "not a number",
		"90-80":                  "ends before it starts",
		"80/icmp":                "the protocol is none of",
		"1.2.3:80:80":            "is no IP address",
		"x:80":                   "the port of the host: not a number",
		"9-8:80":                 "the port of the host: the range ends",
		"1-2:1-3":                "not of one length",
		"127.0.0.1:1-2:1-3/sctp": "not of one length",
	} {
		p, err := planOf(t, "FROM debian:12\nENV P=\"81 82\"\nEXPOSE "+spec, Options{})
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("EXPOSE %s: %v, want %q", spec, err, want)
			}
			continue
		}
		if got := strings.Join(slices.Sorted(maps.Keys(p.Config.Config.ExposedPorts)), " "); got != want {
			t.Errorf("EXPOSE %s: %q, want %q", spec, got, want)
		}
	}
}

// TestWorkdir shows what the config, the history and the file system make of
// a directory.
func TestWorkdir(t *testing.T) {
	for _, c := range []struct{ src, config, history, made, dir string }{
		{"FROM debian:12", "", "", "", "/"},
		{"FROM scratch", "/", "", "", "/"},
		{"FROM bare", "", "", "", "/"},
		{"FROM golang:1.26", "/go", "", "", "/go"},
		{"FROM golang:1.26 AS a\nFROM a", "/go", "", "", "/go"},
		{"FROM unclean", "/srv//app/", "", "", "/srv/app"},
		{"FROM debian:12\nWORKDIR /app/", "/app/", "/app/", "/app", "/app"},
		{"FROM debian:12\nWORKDIR /a/../b", "/a/../b", "/a/../b", "/b", "/b"},
		{"FROM debian:12\nWORKDIR a/", "/a", "/a", "/a", "/a"},
		{"FROM golang:1.26\nWORKDIR ../a/./b/", "/a/b", "/a/b", "/a/b", "/a/b"},
		{"FROM unclean\nWORKDIR x", "/srv/app/x", "/srv/app/x", "/srv/app/x", "/srv/app/x"},
		{"FROM unclean\nWORKDIR $NONE", "/srv//app/", "/srv//app/", "/srv/app", "/srv/app"},
		{"FROM debian:12\nWORKDIR $NONE", "/", "/", "", "/"},
		{"FROM golang:1.26\nWORKDIR /", "/", "/", "", "/"},
	} {
		unclean := images["debian:12"]
		unclean.Config.WorkingDir = "/srv//app/"
		r := &registry{more: map[string]oci.Image{"unclean:latest": unclean}}
		p, err := planWith(t, c.src+"\nRUN x", Options{}, r)
		if err != nil {
			t.Fatal(err)
		}
		history := ""
		if len(p.History) > 1 {
			history = strings.TrimPrefix(p.History[0].CreatedBy, "WORKDIR ")
		}
		made := ""
		for _, v := range p.Graph.Vertices {
			if f, ok := v.Op.(*graph.File); ok {
				made = f.Actions[0].(*graph.Mkdir).Path
			}
		}
		got := []string{p.Config.Config.WorkingDir, history, made, last[*graph.Exec](t, p).Dir}
		if diff := cmp.Diff([]string{c.config, c.history, c.made, c.dir}, got); diff != "" {
			t.Errorf("%q: config, history, directory made, directory of RUN (-want +got):\n%s", c.src, diff)
		}
	}
}

// TestArgsEscaped holds that CMD alone sets the field, in either form.
func TestArgsEscaped(t *testing.T) {
	for src, want := range map[string]bool{
		"FROM debian:12":                           false,
		"FROM debian:12\nCMD x":                    true,
		"FROM debian:12\nCMD [\"x\"]":              true,
		"FROM debian:12\nENTRYPOINT x":             false,
		"FROM debian:12\nENTRYPOINT [\"x\"]":       false,
		"FROM debian:12 AS a\nCMD x\nFROM a":       true,
		"FROM debian:12 AS a\nCMD x\nFROM scratch": false,
	} {
		if got := mustPlan(t, src, Options{}).Config.Config.ArgsEscaped; got != want {
			t.Errorf("%q: %t", src, got)
		}
	}
}

// TestPlatformOfTheImage shows what the config says it is for.
func TestPlatformOfTheImage(t *testing.T) {
	foreign := images["debian:12"]
	foreign.Platform = oci.Platform{OS: "linux", Architecture: "aarch64", Variant: "v8"}
	alias := images["debian:12"]
	alias.Platform = oci.Platform{OS: "linux", Architecture: "x86_64"}
	r := &registry{more: map[string]oci.Image{"foreign:latest": foreign, "alias:latest": alias}}
	for _, c := range []struct {
		base   string
		asked  oci.Platform
		want   oci.Platform
		warned bool
	}{
		{"debian:12", oci.Platform{}, amd64, false},
		{"scratch", oci.Platform{}, amd64, false},
		{"alias", oci.Platform{}, amd64, false},
		{"foreign", oci.Platform{}, oci.Platform{OS: "linux", Architecture: "arm64"}, true},
		{"foreign", amd64, amd64, true},
	} {
		p, err := planWith(t, "FROM "+c.base, Options{Platform: c.asked}, r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, p.Config.Platform); diff != "" {
			t.Errorf("FROM %s for %+v (-want +got):\n%s", c.base, c.asked, diff)
		}
		if warned := len(p.Warnings) > 0; warned != c.warned {
			t.Errorf("FROM %s: warnings %v", c.base, p.Warnings)
		}
		for _, v := range p.Graph.Vertices {
			if i, ok := v.Op.(*graph.Image); ok && i.Platform.Variant != "" {
				t.Errorf("FROM %s: the image is for %+v", c.base, i.Platform)
			}
		}
	}
}

// TestBaseOfTheTarget holds that a chain of stages names the image that it
// stands on, and leaves out what follows from the layers.
func TestBaseOfTheTarget(t *testing.T) {
	p := mustPlan(t, "FROM nginx:1 AS a\nRUN a\nFROM a AS b\nENV B=1\nFROM b\nRUN c", Options{})
	if p.Base == nil || p.Base.Ref != "docker.io/library/nginx:1" || len(p.Base.Config.History) != 1 {
		t.Fatalf("base %+v", p.Base)
	}
	var lines []string
	for _, h := range p.History {
		lines = append(lines, h.CreatedBy)
	}
	if got := strings.Join(lines, "; "); got != "RUN /bin/ash -c a; ENV B=1; RUN /bin/ash -c c" {
		t.Errorf("history %q", got)
	}
	if len(p.Config.History) != 0 || len(p.Config.RootFS.DiffIDs) != 0 || p.Config.Created != nil {
		t.Errorf("the config has what follows from the layers: %+v", p.Config)
	}
}

// TestReplacedTarget holds that a stage which a context replaces is the
// context, until another builds on it.
func TestReplacedTarget(t *testing.T) {
	src := "FROM scratch AS files\nFROM files AS next\nRUN x"
	o := Options{Contexts: map[string]Context{"files": {Local: true}}, Target: "files"}
	if c := mustPlan(t, src, o).Config.Config; c.WorkingDir != "" || len(c.Env) > 0 {
		t.Errorf("the context alone has the config %+v", c)
	}
	o.Target = "next"
	p := mustPlan(t, src, o)
	if c := p.Config.Config; c.WorkingDir != "" || !slices.Equal(c.Env, []string{"PATH=" + defaultPath}) {
		t.Errorf("on the context is the config %+v", c)
	}
	if run := last[*graph.Exec](t, p); !slices.Equal(run.Env, p.Config.Config.Env) || run.Dir != "/" {
		t.Errorf("RUN sees %+v", run)
	}
}

// TestBareRun runs the shell without a command, as docker does.
func TestBareRun(t *testing.T) {
	p := mustPlan(t, "FROM debian:12\nRUN", Options{})
	if got := last[*graph.Exec](t, p).Args; !slices.Equal(got, []string{"/bin/sh", "-c", ""}) {
		t.Errorf("arguments %q", got)
	}
}

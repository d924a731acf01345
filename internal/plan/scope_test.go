package plan

import (
	"strings"
	"testing"

	"stagecraft/internal/graph"
)

// value is what the image config of a plan has for a variable.
func value(p *Plan, name string) string {
	for _, entry := range p.Config.Config.Env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			return v
		}
	}
	return "(unset)"
}

// TestModifiers shows what ENV makes of one word.
func TestModifiers(t *testing.T) {
	for word, want := range map[string]string{
		`$SET`:             "a.tar.gz",
		`x${SET}y`:         "xa.tar.gzy",
		`$UNSET`:           "",
		`${UNSET}x`:        "x",
		`${UNSET:-word}`:   "word",
		`${UNSET-word}`:    "word",
		`${EMPTY:-word}`:   "word",
		`${EMPTY-word}`:    "",
		`${SET:-word}`:     "a.tar.gz",
		`${SET:+word}`:     "word",
		`${EMPTY:+word}`:   "",
		`${EMPTY+word}`:    "word",
		`${UNSET:-${SET}}`: "a.tar.gz",
		`${SET#*.}`:        "tar.gz",
		`${SET##*.}`:       "gz",
		`${SET%.*}`:        "a.tar",
		`${SET%%.*}`:       "a",
		`${SET/a/b}`:       "b.tar.gz",
		`${SET//a/b}`:      "b.tbr.gz",
		`\$SET`:            "$SET",
		`'$SET'`:           "$SET",
		`"$SET b"`:         "a.tar.gz b",
		`$$`:               "",
		`back\\slash`:      `back\slash`,
	} {
		p := mustPlan(t, "FROM debian:12\nENV SET=a.tar.gz EMPTY=\nENV V="+word, Options{})
		if got := value(p, "V"); got != want {
			t.Errorf("ENV V=%s: %q, want %q", word, got, want)
		}
	}
}

// TestScopes shows which value a name has in an expansion, by where it was set.
func TestScopes(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"not seen before its line":             {"FROM debian:12\nENV V=$A\nARG A=s", ""},
		"seen by a stage built on it":          {"FROM debian:12 AS b\nARG A=s\nFROM b\nENV V=$A", "s"},
		"env after arg":                        {"FROM debian:12\nARG A=s\nENV A=e\nENV V=$A", "e"},
		"arg after env":                        {"FROM debian:12\nENV A=e\nARG A=s\nENV V=$A", "s"},
		"arg after env, next stage":            {"FROM debian:12 AS b\nENV A=e\nARG A=s\nFROM b\nENV V=$A", "e"},
		"arg over the image's env":             {"FROM golang:1.26 AS b\nARG GOPATH=s\nENV V=$GOPATH", "s"},
		"arg over the image's env, next":       {"FROM golang:1.26 AS b\nARG GOPATH=s\nFROM b\nENV V=$GOPATH", "/go"},
		"arg between envs, next stage":         {"FROM debian:12 AS b\nENV A=1\nARG A=s\nENV A=2\nFROM b\nENV V=$A", "2"},
		"arg before env, next stage":           {"FROM debian:12 AS b\nARG A=s\nENV A=e\nFROM b\nENV V=$A", "e"},
		"arg twice, next stage":                {"FROM debian:12 AS b\nENV A=e\nARG A=s\nARG A=t\nFROM b\nENV V=$A", "e"},
		"arg again in the next stage":          {"FROM debian:12 AS b\nENV A=e\nARG A=s\nFROM b\nARG A=t\nENV V=$A", "t"},
		"arg without a value over env":         {"FROM debian:12\nENV A=e\nARG A\nENV V=$A", "e"},
		"two stages up":                        {"FROM debian:12 AS a\nENV A=e\nARG A=s\nFROM a AS b\nFROM b\nENV V=$A", "e"},
		"stage default from env":               {"FROM debian:12\nENV E=e\nARG A=$E-a\nENV V=$A", "e-a"},
		"target stage without a name":          {"FROM debian:12\nARG TARGETSTAGE\nENV V=$TARGETSTAGE", "default"},
		"default path":                         {"FROM bare\nENV V=$PATH:/x", defaultPath + ":/x"},
		"escape directive":                     {"# escape=`\nFROM debian:12\nENV A=a\nENV V=`$A\\x", `$A\x`},
		"name from a variable":                 {"FROM debian:12\nENV N=V\nENV $N=x", "x"},
		"argument of a scanner is no variable": {"FROM debian:12\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nENV V=$BUILDKIT_SBOM_SCAN_STAGE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := value(mustPlan(t, c.src, Options{}), "V"); got != c.want {
				t.Errorf("V is %q, want %q", got, c.want)
			}
		})
	}
}

// TestArgOverEnvInHistory holds that RUN's history has the value RUN sees.
func TestArgOverEnvInHistory(t *testing.T) {
	p := mustPlan(t, "FROM debian:12 AS b\nENV A=e\nARG A=s\nRUN x\nFROM b\nRUN y", Options{})
	if got := p.History[2].CreatedBy; got != "RUN |1 A=s /bin/sh -c x" {
		t.Errorf("in the stage: %s", got)
	}
	if got := p.History[3].CreatedBy; got != "RUN |1 A=e /bin/sh -c y" {
		t.Errorf("in the next: %s", got)
	}
}

// TestFromScope shows what FROM sees.
func TestFromScope(t *testing.T) {
	src := "ARG TAG=12\nARG BASE=debian:${TAG}\nFROM --platform=$BUILDPLATFORM ${BASE:-bare} AS a"
	for _, c := range []struct {
		args map[string]string
		want string
	}{
		{nil, "debian:12"},
		{map[string]string{"TAG": "12@"}, ""},
		{map[string]string{"BASE": "nginx:1"}, "nginx:1"},
		{map[string]string{"BASE": ""}, "bare"},
	} {
		p, err := planOf(t, src, Options{BuildArgs: c.args})
		if err != nil {
			if c.want != "" {
				t.Errorf("%v: %v", c.args, err)
			}
			continue
		}
		if got := p.Stages[0].From; got != c.want {
			t.Errorf("%v: base %q, want %q", c.args, got, c.want)
		}
	}
}

// TestSnapshotsStay holds that a later ENV does not show in the environment of
// an earlier step, nor in that of another stage.
func TestSnapshotsStay(t *testing.T) {
	p := mustPlan(t, `FROM debian:12 AS a
ENV X=1
RUN one
ENV Y=2
RUN two
ENV X=3
RUN three
FROM a AS b
ENV X=4
RUN four
FROM a
ENV X=5 Z=6
RUN five
COPY --from=b / /
`, Options{})
	want := map[string]string{"one": "X=1", "two": "X=1 Y=2", "three": "X=3 Y=2", "four": "X=4 Y=2", "five": "X=5 Y=2 Z=6"}
	for _, v := range p.Graph.Vertices {
		if exec, ok := v.Op.(*graph.Exec); ok {
			name := exec.Args[len(exec.Args)-1]
			if got := strings.Join(exec.Env[1:], " "); got != want[name] {
				t.Errorf("RUN %s sees %q, want %q", name, got, want[name])
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		t.Errorf("steps not planned: %v", want)
	}
}

package plan

import (
	"context"
	"errors"
	"strings"
	"testing"

	"stagecraft/internal/dockerfile"
	"stagecraft/internal/oci"
)

func TestErrors(t *testing.T) {
	const from = "FROM debian:12 AS build\n"
	for name, c := range map[string]struct {
		src, target, want, hint string
	}{
		"unknown target":        {from + "FROM debian:12 AS final", "biuld", `Dockerfile: there is no stage "biuld" to build`, "did you mean build? the stages are: build, final"},
		"unknown index":         {from + "FROM debian:12", "2", `Dockerfile: there is no stage "2" to build`, "the stages are: build, 1"},
		"COPY from below":       {from + "COPY --from=late /a /b\nFROM scratch AS late\nFROM build", "", "Dockerfile:2 COPY --from=late /a /b: stage late is defined below, at line 3", "move stage late above stage build"},
		"COPY from below by n":  {from + "COPY --from=1 /a /b\nFROM scratch\nFROM build", "", "Dockerfile:2 COPY --from=1 /a /b: stage 1 is defined below, at line 3", "move stage 1 above"},
		"COPY from itself":      {from + "COPY --from=Build /a /b", "", "Dockerfile:2 COPY --from=Build /a /b: stage build cannot copy from itself", "name the stage"},
		"COPY from itself by n": {from + "COPY --from=0 /a /b", "", "Dockerfile:2 COPY --from=0 /a /b: stage build cannot copy from itself", "name the stage"},
		"COPY from no index":    {from + "COPY --from=7 /a /b", "", "Dockerfile:2 COPY --from=7 /a /b: there is no stage 7", "from 0 to 0"},
		"COPY from a variable":  {from + "COPY --from=$X /a /b", "", "Dockerfile:2 COPY --from=$X /a /b: --from does not expand variables", "FROM $X AS name"},
		"COPY from near":        {from + "FROM scratch\nCOPY --from=buid /a /b", "", "Dockerfile:3 COPY --from=buid /a /b: buid is no stage, and as an image: docker.io/library/buid:latest: not found", "did you mean stage build?"},
		"COPY from a non-name":  {from + "FROM scratch\nCOPY --from=Build! /a /b", "", `Dockerfile:3 COPY --from=Build! /a /b: there is no stage "Build!", and it is no image name: image name "Build!": invalid reference format: repository name (library/Build!) must be lowercase`, "did you mean stage build?"},
		"FROM nothing":          {"FROM debian:99", "", "Dockerfile:1 FROM debian:99: image debian:99: docker.io/library/debian:99: not found", ""},
		"FROM near":             {"FROM debian:12 AS debian\nFROM debiam", "", "Dockerfile:2 FROM debiam: image debiam: docker.io/library/debiam:latest: not found", "did you mean stage debian?"},
		"FROM below":            {"FROM late\nFROM scratch AS late\nFROM 0 AS x", "0", "Dockerfile:1 FROM late: image late: docker.io/library/late:latest: not found", ""},
		"FROM empty":            {"ARG X\nFROM $X", "", "Dockerfile:2 FROM $X: the base name $X is empty", "ARG for FROM"},
		"FROM no name":          {"FROM A:b:c", "", `Dockerfile:1 FROM A:b:c: image name "A:b:c": invalid reference format: repository name (library/A) must be lowercase`, ""},
		"foreign platform":      {"FROM --platform=linux/arm64 debian:12", "", "Dockerfile:1 FROM --platform=linux/arm64 debian:12: --platform=linux/arm64 on linux/amd64 is not supported yet", "machine of that platform"},
		"empty platform":        {"FROM --platform=$NOPE debian:12", "", "Dockerfile:1 FROM --platform=$NOPE debian:12: the platform $NOPE is empty", "BUILDPLATFORM"},
		"FROM SCRATCH":          {"FROM SCRATCH", "", `Dockerfile:1 FROM SCRATCH: image name "SCRATCH": invalid reference format: repository name (library/SCRATCH) must be lowercase`, ""},
		"COPY from SCRATCH":     {"FROM scratch\nCOPY --from=SCRATCH /a /b", "", `Dockerfile:2 COPY --from=SCRATCH /a /b: there is no stage "SCRATCH", and it is no image name: image name "SCRATCH": invalid reference format: repository name (library/SCRATCH) must be lowercase`, ""},
		"no platform":           {"FROM --platform=a/b/c/d debian:12", "", `Dockerfile:1 FROM --platform=a/b/c/d debian:12: --platform=a/b/c/d: "a/b/c/d": cannot parse platform specifier: invalid argument`, ""},
		"triggers of a base":    {"FROM onbuild", "", "Dockerfile:1 FROM onbuild: image onbuild has ONBUILD triggers, which are not supported yet", "COPY . /app; RUN make"},
		"no arguments":          {from + "RUN []", "", "Dockerfile:2 RUN []: RUN has no command", "RUN command"},
		"required variable":     {from + `ENV A="${X:?give X}"`, "", `Dockerfile:2 ENV A="${X:?give X}": X: give X`, ""},
		"required for FROM":     {"ARG A\nFROM ${A:?}", "", "Dockerfile:2 FROM ${A:?}: A: is not allowed to be unset", ""},
		"open brace":            {from + "ENV A=${X", "", "Dockerfile:2 ENV A=${X: syntax error: missing '}'", ""},
		"no signal":             {from + "STOPSIGNAL SIGFOO", "", `Dockerfile:2 STOPSIGNAL SIGFOO: there is no signal "SIGFOO"`, "SIGTERM"},
		"no port":               {from + "EXPOSE 65536", "", "Dockerfile:2 EXPOSE 65536: port 65536: not a number between 0 and 65535", "EXPOSE 80"},
		"ports backwards":       {from + "EXPOSE 5-3", "", "Dockerfile:2 EXPOSE 5-3: port 5-3: the range ends before it starts", "EXPOSE 80"},
		"no protocol":           {from + "EXPOSE 5/icmp", "", "Dockerfile:2 EXPOSE 5/icmp: port 5/icmp: the protocol is none of tcp, udp, sctp", "EXPOSE 80"},
		"empty volume":          {from + "VOLUME $none", "", "Dockerfile:2 VOLUME $none: the volume $none is empty", ""},
		"mode":                  {from + "COPY --chmod=88888 a b", "", "Dockerfile:2 COPY --chmod=88888 a b: --chmod=88888: not an octal mode", "07777"},
		"mode too large":        {from + "COPY --chmod=10000 a b", "", "Dockerfile:2 COPY --chmod=10000 a b: --chmod=10000: not an octal mode", "07777"},
		"COPY of a URL":         {from + "COPY https://example.com/x /x", "", "Dockerfile:2 COPY https://example.com/x /x: COPY cannot take a URL: https://example.com/x", "fetch it"},
		"heredoc without name":  {from + "COPY <</ /x\ny\n/\n", "", `Dockerfile:2 COPY <</ /x: the heredoc's name "/" is no file name`, ""},
		"strict":                {"# check=error=true\nFROM debian:12 AS Base", "", "Dockerfile:2: Stage name 'Base' should be lowercase", "check=error"},
		"too much text":         {from + "ENV A=0123456789\n" + strings.Repeat("ENV A=$A$A$A$A$A$A$A$A\n", 9), "", "Dockerfile:8 ENV A=$A$A$A$A$A$A$A$A: variables expand to too much text", ""},
		"too much replacement":  {from + "ENV A=" + strings.Repeat("x", 5000) + "\nENV B=${A//x/${A//x/$A}}", "", "Dockerfile:3 ENV B=${A//x/${A//x/$A}}: variables expand to too much text", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planOf(t, c.src, Options{Target: c.target})
			var e *dockerfile.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an error of the Dockerfile", err)
			}
			if e.Error() != c.want {
				t.Errorf("got  %s\nwant %s", e, c.want)
			}
			if !strings.Contains(e.Hint, c.hint) || (c.hint == "") != (e.Hint == "") {
				t.Errorf("hint %q, want %q", e.Hint, c.hint)
			}
		})
	}
}

// TestRefusals holds that what is not supported is refused with its line where
// the stage is needed, and is no matter where it is not.
func TestRefusals(t *testing.T) {
	for _, instruction := range []string{
		"RUN --mount=type=cache,target=/x make",
		"RUN --mount=type=secret,id=a make",
		"RUN --security=insecure make",
		"RUN --device=vendor.com/gpu=all make",
		"ONBUILD RUN make",
		"ADD https://example.com/x /x",
		"ADD git@example.com:a/b.git /x",
		"ADD ssh://git@example.com/a /x",
		"ADD --link a /a",
		"ADD --checksum=sha256:abc a /a",
		"ADD --keep-git-dir=true a /a",
		"ADD --unpack=false a /a",
		"ADD --exclude=x a /a",
		"COPY --link a /a",
		"COPY --parents a /a",
		"COPY --exclude=x a /a",
		"COPY --chmod=u+x a /a",
		"COPY --chmod=g=u a /a",
	} {
		_, err := planOf(t, "FROM debian:12\n"+instruction, Options{})
		var e *dockerfile.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v", instruction, err)
			continue
		}
		if e.Line != 2 || !strings.Contains(e.Problem, "not supported yet") || e.Hint == "" {
			t.Errorf("%s: got %s, hint %q", instruction, e, e.Hint)
		}
		if _, err := planOf(t, "FROM debian:12 AS x\n"+instruction+"\nFROM debian:12", Options{}); err != nil {
			t.Errorf("%s in a stage that is not needed: %v", instruction, err)
		}
	}
}

// TestNamesInSkippedStages holds that a name which can mean nothing is refused
// wherever it stands, and that what only bars building is no matter in a stage
// that is not built.
func TestNamesInSkippedStages(t *testing.T) {
	for instructions, want := range map[string]string{
		"FROM scratch AS a\nCOPY --from=a /x /x":                     "stage a cannot copy from itself",
		"FROM scratch AS a\nCOPY --from=0 /x /x":                     "stage a cannot copy from itself",
		"FROM scratch\nCOPY --from=9 /x /x":                          "there is no stage 9",
		"FROM scratch\nCOPY --from=$A /x /x":                         "--from does not expand variables",
		"FROM scratch\nCOPY --from=No! /x /x":                        "there is no stage \"No!\"",
		"FROM $A":                                                    "the base name $A is empty",
		"FROM No!":                                                   "must be lowercase",
		"FROM ${A:?}":                                                "is not allowed to be unset",
		"FROM --platform=$A scratch":                                 "the platform $A is empty",
		"FROM --platform=a/b/c/d scratch":                            "cannot parse platform specifier",
		"FROM --platform=linux/arm64 debian:12\nCOPY --from=2 /x /x": "",
		"FROM missing AS b\nCOPY --from=other:1 /x /x\nFROM missing": "",
	} {
		_, err := planOf(t, instructions+"\nFROM debian:12\nFROM debian:12", Options{})
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", instructions, err, want)
		}
	}
}

// failing fails for one name after the others wait for their cancellation.
type failing struct{ bad string }

func (f failing) ResolveImage(ctx context.Context, name string, _ oci.Platform) (Base, error) {
	if name == f.bad {
		return Base{}, errDown
	}
	<-ctx.Done()
	return Base{}, ctx.Err()
}

// TestOneFailureCancelsTheOthers holds that the error is the failing one's,
// and that a build can be cancelled while it waits for images.
func TestOneFailureCancelsTheOthers(t *testing.T) {
	src := "FROM a\nFROM b\nFROM c\nCOPY --from=0 / /\nCOPY --from=1 / /\n"
	_, err := planWith(t, src, Options{}, failing{bad: "docker.io/library/b:latest"})
	if !errors.Is(err, errDown) || !strings.HasPrefix(err.Error(), "Dockerfile:2 FROM b: image b:") {
		t.Errorf("error %v, want that of line 2", err)
	}
	f, err := dockerfile.Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, f, Options{Host: amd64}, failing{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
}

// TestRefusedBeforeResolving holds that a file which will be refused asks for
// no image.
func TestRefusedBeforeResolving(t *testing.T) {
	r := new(registry)
	if _, err := planWith(t, "FROM debian:12\nONBUILD RUN x", Options{}, r); err == nil || len(r.asked) > 0 {
		t.Errorf("error %v, asked %v", err, r.asked)
	}
}

func TestForeignTarget(t *testing.T) {
	_, err := planOf(t, "FROM scratch", Options{Platform: oci.Platform{OS: "linux", Architecture: "s390x"}})
	if err == nil || !strings.Contains(err.Error(), "building for linux/s390x on linux/amd64 is not supported yet") {
		t.Error(err)
	}
}

var errDown = errors.New("registry is down")

type down struct{}

func (down) ResolveImage(context.Context, string, oci.Platform) (Base, error) { return Base{}, errDown }

// TestCauseIsKept lets callers tell why an image could not be had.
func TestCauseIsKept(t *testing.T) {
	if _, err := planWith(t, "FROM debian:12", Options{}, down{}); !errors.Is(err, errDown) {
		t.Errorf("got %v", err)
	}
}

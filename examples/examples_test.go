// Package examples_test builds examples with the real program and holds what
// comes out against other tools.
package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stagecraft/internal/testkit"
)

// program is a stagecraft binary with a store of its own.
type program struct {
	path string
	env  []string
}

func newProgram(t *testing.T) program {
	t.Helper()
	p := program{path: filepath.Join(t.TempDir(), "stagecraft"), env: append(os.Environ(), "STAGECRAFT_ROOT="+t.TempDir())}
	build := exec.Command("go", "build", "-o", p.path, "../cmd/stagecraft")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return p
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = p.env
	return cmd
}

// run returns what the program prints on standard output and standard error.
func (p program) run(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := p.command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("stagecraft %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// tool runs a program of the distribution.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

func TestSimpleIsReadAndRunByOtherTools(t *testing.T) {
	p := newProgram(t)
	busybox := "busybox=oci-layout://" + testkit.BusyboxLayout(t)
	_, log := p.run(t, "build", "-t", "simple", "--build-context", busybox, "simple")
	if !strings.Contains(log, "skipped stage test: nothing the target needs copies from it or builds on it") {
		t.Errorf("the build does not say that test is skipped, and why:\n%s", log)
	}
	want, _ := p.run(t, "run", "simple")
	if !strings.Contains(want, "base: made on Linux\n") || !strings.Contains(want, "BUILD: A MESSAGE FROM THE CONTEXT\n") {
		t.Errorf("stagecraft run prints %q, want the content of both files", want)
	}

	layout := filepath.Join(t.TempDir(), "layout")
	p.run(t, "build", "-t", "simple:1", "-o", "type=oci,tar=false,dest="+layout, "--build-context", busybox, "simple")
	var config struct{ Config struct{ Cmd []string } }
	if err := json.Unmarshal([]byte(tool(t, "skopeo", "inspect", "--config", "oci:"+layout+":1")), &config); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(config.Config.Cmd, " "); got != "cat /base.txt /build.txt" {
		t.Errorf("skopeo reads the command %q", got)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	tool(t, "umoci", "unpack", "--image", layout+":1", bundle)
	if got := runBundle(t, bundle); got != want {
		t.Errorf("runc prints %q, stagecraft run %q", got, want)
	}
}

// runBundle runs the process of a runtime bundle without a terminal.
func runBundle(t *testing.T, bundle string) string {
	t.Helper()
	path := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"] = false
	delete(process, "rlimits") // raising them is not everybody's right
	if b, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return tool(t, "runc", "--root", t.TempDir(), "run", "--bundle", bundle, fmt.Sprintf("stagecraft-%d", os.Getpid()))
}

// golang.Dockerfile makes a small golang image: the toolchain that runs this
// test, and the modules that it has downloaded, so that no RUN needs a network.
const golangDockerfile = `FROM busybox
COPY --from=goroot . /usr/local/go
COPY --from=modules . /modules
ENV PATH=/usr/local/go/bin:$PATH GOTOOLCHAIN=local GOPROXY=file:///modules GOFLAGS=-modcacherw
WORKDIR /go
`

func TestGoServesFromUnder10MB(t *testing.T) {
	p := newProgram(t)
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(golangDockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run(t, "build", "-t", "golang:1.26", "--build-context", "busybox=oci-layout://"+testkit.BusyboxLayout(t),
		"--build-context", "goroot="+strings.TrimSpace(tool(t, "go", "env", "GOROOT")),
		"--build-context", "modules="+moduleProxy(t, "go"), context)
	_, log := p.run(t, "build", "-t", "greeter", "go")
	for _, gate := range []string{"lint", "test", "dev"} {
		if !strings.Contains(log, "skipped stage "+gate+":") {
			t.Errorf("a production build does not skip stage %s:\n%s", gate, log)
		}
	}
	sdk, production := imageSize(t, p, "golang:1.26"), imageSize(t, p, "greeter")
	if production >= 10e6 || sdk < 20*production {
		t.Errorf("the image has %d bytes of %d of its SDK image, want under 10 MB and a twentieth", production, sdk)
	}
	if got := get(t, p, "greeter", "/healthz"); got != "ok\n" {
		t.Errorf("GET /healthz answers %q", got)
	}
}

// moduleProxy returns a directory in the layout of a module proxy that has the
// modules of the example in dir.
func moduleProxy(t *testing.T, dir string) string {
	t.Helper()
	proxy := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-modcacherw")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOMODCACHE="+proxy, "GOWORK=off")
	// What this machine has already is not asked for again.
	if cache := filepath.Join(strings.TrimSpace(tool(t, "go", "env", "GOMODCACHE")), "cache", "download"); exists(cache) {
		cmd.Env = append(cmd.Env, "GOPROXY=file://"+cache+","+strings.TrimSpace(tool(t, "go", "env", "GOPROXY")))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	return filepath.Join(proxy, "cache", "download")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func imageSize(t *testing.T, p program, image string) int64 {
	t.Helper()
	out, _ := p.run(t, "inspect", "--format", "json", image)
	var info struct{ Size int64 }
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatal(err)
	}
	return info.Size
}

// get runs a container of an image until it has answered one request.
func get(t *testing.T, p program, image, path string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	container := p.command(t.Context(), "run", "-e", fmt.Sprintf("PORT=%d", port), image)
	container.Stdout, container.Stderr = t.Output(), t.Output()
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		container.Process.Signal(os.Interrupt)
		container.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			continue
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatalf("the container does not answer on port %d", port)
	return ""
}

package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The examples that are servers answer the same in our hands and in runc's on
// what umoci unpacked.
func TestExampleServers(t *testing.T) {
	examples := exampleBases(t)
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		t.Run(name, func(t *testing.T) {
			p := exampleProgram(t, name)
			e := export(t, p, name, examples[name])
			port := freePort(t)
			want := ask(t, p.command("run", "-e", "PORT="+port, name), port)
			bundle := filepath.Join(t.TempDir(), "bundle")
			port = freePort(t)
			unpack(t, e.layout, bundle, "PORT="+port)
			got := ask(t, runcCommand(t, bundle, fmt.Sprintf("stagecraft-%s-%d", name, os.Getpid())), port)
			if got != want {
				t.Errorf("under runc it answers\n%s\nunder stagecraft run\n%s", got, want)
			}
			if name == "go" {
				wantSmall(t, e, examples[name])
			}
		})
	}
}

// wantSmall wants an image under 10 MB out of a stage above 300 MB.
func wantSmall(t *testing.T, e exported, flags []string) {
	t.Helper()
	e.succeed(append(append([]string{"build", "-t", "sdk", "--target", "build"}, flags...), ".")...)
	if small, large := e.size(e.name), e.size("sdk"); small > 10_000_000 || large < 300_000_000 {
		t.Errorf("the image has %d bytes, its build stage %d: want less than 10 MB out of more than 300 MB", small, large)
	}
	if info, err := os.Stat(e.archive); err != nil || info.Size() > 10_000_000 {
		t.Errorf("the archive: %v bytes, %v", info.Size(), err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// ask starts a server, asks it on that port, and ends it by a signal, as a user
// would. It returns the answers.
func ask(t *testing.T, server *exec.Cmd, port string) (answers string) {
	t.Helper()
	var output strings.Builder
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	for _, path := range []string{"/healthz", "/"} {
		answer, err := get("http://127.0.0.1:"+port+path, ended)
		if err != nil {
			server.Process.Kill() //nolint:errcheck // it may have ended
			t.Fatalf("GET %s: %v\n%s", path, err, output.String())
		}
		if path == "/healthz" && !strings.HasPrefix(answer, "200 OK\nok") {
			t.Errorf("GET /healthz: %s", answer)
		}
		answers += answer + "\n"
	}
	// Servers may take a first signal as leave to finish; the second ends them.
	for range 2 {
		server.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		select {
		case <-ended:
			wantPortFree(t, port)
			return answers
		case <-time.After(3 * time.Second):
		}
	}
	server.Process.Kill() //nolint:errcheck // it may have ended
	t.Errorf("the server does not end when it is told to\n%s", output.String())
	return answers
}

// get asks until there is an answer, or the server has ended.
func get(url string, ended <-chan error) (string, error) {
	for deadline := time.Now().Add(20 * time.Second); ; {
		response, err := http.Get(url)
		if err == nil {
			defer response.Body.Close()
			body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
			return response.Status + "\n" + string(body), err
		}
		select {
		case ended := <-ended:
			return "", fmt.Errorf("the server has ended: %v", ended)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return "", err
		}
	}
}

// wantPortFree wants that nobody serves any more.
func wantPortFree(t *testing.T, port string) {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err == nil {
		c.Close()
		t.Errorf("port %s is served after the container has ended", port)
	}
}

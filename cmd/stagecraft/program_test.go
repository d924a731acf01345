package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stagecraft/internal/cache"
	"stagecraft/internal/image"
)

// program runs the program as its users do, in a directory and with a store of
// its own, which is checked when the test ends.
type program struct {
	t     testing.TB
	dir   string // working directory and build context
	store string
	env   []string // beside that of the test
}

func newProgram(t testing.TB, files map[string]string) *program {
	t.Helper()
	base := t.TempDir()
	p := &program{t: t, dir: filepath.Join(base, "context"), store: filepath.Join(base, "store")}
	p.env = []string{"HOME=" + base}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.write(files)
	t.Cleanup(func() {
		if err := checkStore(p.store); err != nil {
			t.Error(err)
		}
	})
	return p
}

// write puts files into the build context.
func (p *program) write(files map[string]string) {
	p.t.Helper()
	for name, content := range files {
		path := filepath.Join(p.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// command prepares a call of the program.
func (p *program) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(p.t.Context(), "stagecraft", args...)
	c.Dir = p.dir
	c.Env = append(os.Environ(), append([]string{"STAGECRAFT_ROOT=" + p.store}, p.env...)...)
	return c
}

// outcome is how a call of the program ended.
type outcome struct {
	code           int // -1: ended by a signal
	stdout, stderr string
}

// run runs the program to its end.
func (p *program) run(args ...string) outcome {
	p.t.Helper()
	return finish(p.t, p.command(args...))
}

// finish runs a prepared call to its end.
func finish(t testing.TB, c *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(c.Args, " "), err)
	}
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// succeed runs the program and wants exit code 0.
func (p *program) succeed(args ...string) outcome {
	p.t.Helper()
	got := p.run(args...)
	if got.code != 0 {
		p.t.Fatalf("stagecraft %s: exit code %d\n%s", strings.Join(args, " "), got.code, got.stderr)
	}
	return got
}

// wantError wants that exit code, and a message of three lines: where, what
// happened, what to try. where and what are parts of the first two.
func (o outcome) wantError(t testing.TB, code int, where, what string) {
	t.Helper()
	_, message, found := strings.Cut("\n"+o.stderr, "\nerror: ")
	lines := strings.Split(strings.TrimSuffix(message, "\n"), "\n  ")
	switch {
	case o.code != code || !found:
		t.Errorf("exit code %d, want %d and an error\n%s", o.code, code, o.stderr)
	case len(lines) != 3 || strings.Contains(lines[2], "\n"):
		t.Errorf("the message has not the three lines where, what and hint:\n%s", message)
	case !strings.Contains(lines[0], where):
		t.Errorf("the message does not say where, %q:\n%s", where, message)
	case !strings.Contains(lines[1], what):
		t.Errorf("the message does not say %q:\n%s", what, message)
	}
}

// wantNoImages wants an empty list of images and a store in order.
func (p *program) wantNoImages() {
	p.t.Helper()
	if err := checkStore(p.store); err != nil {
		p.t.Error(err)
		return
	}
	store, err := cache.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	list, err := image.NewImages(store).List()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, img := range list {
		p.t.Errorf("image %s %v is listed", img.ID, img.Tags)
	}
}

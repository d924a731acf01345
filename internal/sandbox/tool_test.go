package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain makes this test binary two things: the tests, and the inner half of
// a sandbox.
func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// install puts the program of testdata/probe into the layer, under the name
// that says what it is to try.
func (b *box) install(probe string) {
	b.t.Helper()
	cmd := exec.Command("go", "build", "-o", filepath.Join(b.layer(), "bin", probe), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("build probe: %v\n%s", err, out)
	}
}

func TestSeccompRefusesWhatDockerRefuses(t *testing.T) {
	b := newBox(t)
	b.install("probe-calls")
	out, status, err := b.try("probe-calls")
	if err != nil || status != (Status{}) {
		t.Fatal(status, err, out)
	}
	want := map[string]string{"getpid": "ok", "socket inet": "ok", "clone3": "ENOSYS"}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		name, got := line[:i], line[i+1:]
		expected, ok := want[name]
		if !ok {
			expected = "EPERM"
		}
		if got != expected {
			t.Errorf("%s: %s, want %s", name, got, expected)
		}
	}
	if n := strings.Count(out, "\n"); n != 18 {
		t.Errorf("%d calls tried, want 18:\n%s", n, out)
	}
}

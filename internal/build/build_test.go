package build

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/oci"
)

func TestSideBySide(t *testing.T) {
	at := func(from, to int) stepTrace {
		return stepTrace{start: time.Unix(int64(from), 0), end: time.Unix(int64(to), 0)}
	}
	for _, c := range []struct {
		name        string
		runs        []stepTrace
		wall, saved int
	}{
		{"nothing", nil, 0, 0},
		{"one after the other", []stepTrace{at(0, 2), at(2, 5)}, 5, 0},
		{"side by side", []stepTrace{at(0, 3), at(0, 3)}, 3, 3},
		{"inside", []stepTrace{at(0, 10), at(2, 4), at(5, 6)}, 10, 3},
		{"with a pause", []stepTrace{at(6, 8), at(0, 1)}, 3, 0},
	} {
		wall, saved := sideBySide(c.runs)
		if wall != time.Duration(c.wall)*time.Second || saved != time.Duration(c.saved)*time.Second {
			t.Errorf("%s: %s and %s saved, want %d s and %d s", c.name, wall, saved, c.wall, c.saved)
		}
	}
}

func TestCommand(t *testing.T) {
	entry, none := "other", ""
	image := oci.Config{}
	image.Entrypoint, image.Cmd = []string{"entry"}, []string{"cmd"}
	for _, c := range []struct {
		name string
		o    RunOptions
		want []string
	}{
		{"as the image says", RunOptions{}, []string{"entry", "cmd"}},
		{"arguments", RunOptions{Args: []string{"a", "b"}}, []string{"entry", "a", "b"}},
		{"another entry point drops CMD", RunOptions{Entrypoint: &entry}, []string{"other"}},
		{"with arguments", RunOptions{Entrypoint: &entry, Args: []string{"a"}}, []string{"other", "a"}},
		{"no entry point", RunOptions{Entrypoint: &none, Args: []string{"a"}}, []string{"a"}},
	} {
		if d := cmp.Diff(c.want, command(image, c.o)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FROM_CALLER", "c")
	got := environment([]string{"A=1", "B=2"}, []string{"B=3", "FROM_CALLER", "NOT_SET", "E="})
	want := []string{"A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "B=3", "FROM_CALLER=c", "E="}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"PATH=/x"}, environment([]string{"PATH=/x"}, nil)); d != "" {
		t.Error(d)
	}
}

func TestWorkDir(t *testing.T) {
	for _, c := range [][3]string{{"", "", "/"}, {"/app", "", "/app"}, {"/app", "sub", "/app/sub"}, {"/app", "/etc/../tmp", "/tmp"}} {
		if got := workDir(c[0], c[1]); got != c[2] {
			t.Errorf("workDir(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

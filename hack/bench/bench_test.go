package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// A check that lets a wrong image pass would make every figure worthless.
func TestHasFilesOf(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "1", "d/b": "2"} {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			t.Fatal(err)
		}
	}
	one, two := fileOf([]byte("1")), fileOf([]byte("2"))
	for _, c := range []struct {
		name  string
		files map[string]file
		want  string // in the error
	}{
		{"right", map[string]file{"data/a": one, "data/d/b": two, "other": two}, ""},
		{"missing", map[string]file{"data/a": one}, "1 files, 2 were copied"},
		{"changed", map[string]file{"data/a": one, "data/d/b": one}, "data/d/b: not the file"},
		{"extra", map[string]file{"data/a": one, "data/d/b": two, "data/c": two}, "data/c: not the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := hasFilesOf("data", dir).files(c.files)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheckImageReadsEveryLayer(t *testing.T) {
	image, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image})); err != nil {
		t.Fatal(err)
	}
	count := 0
	counts := expectation{files: func(files map[string]file) error {
		count = len(files)
		return nil
	}}
	if err := checkImage(context.Background(), dir, []expectation{counts}); err != nil {
		t.Fatal(err)
	}
	if count != 3 {
		t.Errorf("%d files, want the 3 of three layers", count)
	}
	if err := checkImage(context.Background(), dir, []expectation{hasText("none", "text")}); err == nil {
		t.Error("a file that is not there was found")
	}
}

func TestMedianAndRatio(t *testing.T) {
	if got := median([]time.Duration{1, 3, 5, 100}); got != 4 {
		t.Errorf("median %d, want 4", got)
	}
	for _, c := range []struct {
		own, other time.Duration
		want       string
	}{{time.Second, 5 * time.Second, "1/5.0"}, {3 * time.Second, 2 * time.Second, "1.50"}, {1, 1, "1/1.0"}} {
		if got := ratio(c.own, c.other); got != c.want {
			t.Errorf("ratio of %v to %v: %s, want %s", c.own, c.other, got, c.want)
		}
	}
}

func TestWriteMarkdownKeepsWhatIsAroundTheMarkers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	for _, section := range []string{"old", "new"} {
		if section == "old" {
			if err := writeFile(path, "before\n"+beginMarker+"\nolder\n"+endMarker+"\nafter\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeMarkdown(path, beginMarker+"\n"+section+"\n"+endMarker); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + beginMarker + "\nnew\n" + endMarker + "\nafter\n"; string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
	if err := writeFile(path, "no markers"); err != nil {
		t.Fatal(err)
	}
	if err := writeMarkdown(path, "x"); err == nil {
		t.Error("a document without markers was written to")
	}
}

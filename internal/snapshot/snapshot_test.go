package snapshot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
	"stagecraft/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// room is a store with a first layer of busybox.
type room struct {
	t      *testing.T
	store  *cache.Store
	layers []*cache.Layer
}

func newRoom(t *testing.T) *room {
	t.Helper()
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("the package busybox-static is needed: ", err)
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, store: store}
	root, err := Prepare(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root.upper(), "busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	r.commit(root)
	return r
}

func (r *room) commit(root *Root) *cache.Layer {
	r.t.Helper()
	l, err := root.Commit(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if l != nil {
		r.layers = append(r.layers, l)
	}
	return l
}

// run runs a shell script over the layers and commits what it wrote.
func (r *room) run(script string) (string, *cache.Layer) {
	r.t.Helper()
	root, err := Prepare(r.store, r.layers)
	if err != nil {
		r.t.Fatal(err)
	}
	spec, err := sandbox.DefaultSpec()
	if err != nil {
		r.t.Fatal(err)
	}
	spec.Process.Args = []string{"/busybox", "sh", "-c", script}
	var out bytes.Buffer
	status, err := new(sandbox.Native).Run(r.t.Context(), &sandbox.Container{Rootfs: root.Rootfs(), Spec: spec},
		sandbox.IO{Stdout: &out, Stderr: &out})
	if err != nil || status != (sandbox.Status{}) {
		r.t.Fatalf("%s: %v %v\n%s", script, status, err, &out)
	}
	return out.String(), r.commit(root)
}

func TestLayersOfSteps(t *testing.T) {
	r := newRoom(t)
	if _, l := r.run("true"); l != nil {
		t.Errorf("a step that writes nothing made layer %v", l)
	}
	r.run("echo 1 > /a; busybox mkdir /d 2>/dev/null || /busybox mkdir /d; echo 2 > /d/b")
	r.run("/busybox rm /a; echo 3 > /d/c")
	out, _ := r.run("cd /; for f in a d/b d/c; do test -e $f && echo $f; done; true")
	if out != "d/b\nd/c\n" {
		t.Errorf("files %q, want d/b and d/c", out)
	}
	left, err := filepath.Glob(filepath.Join(r.store.Dir(), "tmp", "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// Two steps that make the same layer: overlayfs takes a directory only once.
func TestSameLayerTwice(t *testing.T) {
	r := newRoom(t)
	_, first := r.run("echo x > /a")
	r.run("/busybox rm /a; echo y > /b")
	_, again := r.run("echo x > /a")
	if first.ID != again.ID {
		t.Fatalf("layers %s and %s, want the same", first.ID, again.ID)
	}
	out, _ := r.run("/busybox cat /a /b")
	if out != "x\ny\n" {
		t.Errorf("files %q, want x and y", out)
	}
}

// The mode and the owner of "/" are those of the layer below, not of the store.
func TestRootKeepsModeAndOwner(t *testing.T) {
	r := newRoom(t)
	if out, _ := r.run("/busybox stat -c '%a %u' /; /busybox chmod 711 /"); out != "755 0\n" {
		t.Errorf("root: %q", out)
	}
	if out, _ := r.run("/busybox stat -c %a /"); out != "711\n" {
		t.Errorf("root after chmod: %q", out)
	}
}

func TestTooManyLayers(t *testing.T) {
	r := newRoom(t)
	var layers []*cache.Layer
	for i := range maxDepth + 1 {
		layers = append(layers, &cache.Layer{ID: oci.FromBytes(fmt.Append(nil, i)), Dir: r.layers[0].Dir})
	}
	if _, err := Prepare(r.store, layers); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("error %v, want one that says how many layers there can be", err)
	}
}

func TestStack(t *testing.T) {
	a, b := oci.FromBytes([]byte("a")), oci.FromBytes([]byte("b"))
	var empty *Stack
	ab, ba := empty.Push(a).Push(b), empty.Push(b).Push(a)
	if d := cmp.Diff([]oci.Digest{a, b}, ab.Layers()); d != "" {
		t.Error(d)
	}
	if ab.Content() == ba.Content() || ab.Content() == empty.Content() || empty.Push(a).Content() == ab.Content() {
		t.Error("different stacks have the same content id")
	}
	if ab.Content() != empty.Push(a).Push(b).Content() {
		t.Error("equal stacks have different content ids")
	}
	if empty.Depth() != 0 || len(empty.Layers()) != 0 || ab.Depth() != 2 {
		t.Error("wrong depth")
	}
}

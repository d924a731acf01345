package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

// run runs a program of the distribution and returns its standard output.
func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// startRegistry starts the distribution's docker-registry and returns its
// address. It picks a free port, which it tells in its log.
func startRegistry(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	put(t, config, fmt.Appendf(nil, "version: 0.1\nlog:\n  formatter: json\n  accesslog:\n    disabled: true\n"+
		"storage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: 127.0.0.1:0\n", filepath.Join(dir, "data")))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", config)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
	})
	for log := json.NewDecoder(stderr); ; {
		var line struct{ Msg string }
		if err := log.Decode(&line); err != nil {
			t.Fatalf("docker-registry: no address in its log: %v", err)
		}
		if addr, ok := strings.CutPrefix(line.Msg, "listening on "); ok {
			go io.Copy(io.Discard, stderr)
			waitFor(t, "http://"+addr+"/v2/")
			return addr
		}
	}
}

func waitFor(t testing.TB, url string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestWithDockerRegistry(t *testing.T) {
	host := startRegistry(t)
	dir := t.TempDir()
	image := testkit.Image(t, testkit.ImageOptions{Seed: 1, Layers: 3})
	testkit.AddToLayout(t, dir, "1", image)
	testkit.PushLayout(t, dir, "1", host+"/team/app:1")
	store := openStore(t)
	src := &Resolver{Store: store, Registry: client(nil)}
	img := resolve(t, src, host+"/team/app:1")
	if img.Digest != digestOf(t, image) {
		t.Errorf("got %s", img.Digest)
	}
	if _, err := EnsureLayers(t.Context(), store, img); err != nil {
		t.Fatal(err)
	}
	_, err := src.Resolve(t.Context(), parseRef(t, host+"/team/app:2"), amd64)
	wantError[*NotFoundError](t, err)
	_, err = src.Resolve(t.Context(), parseRef(t, host+"/none:1"), amd64)
	wantError[*NotFoundError](t, err)
}

// TestReadBySkopeoAndUmoci gives a layout of ours to other tools, and takes one
// of theirs.
func TestReadBySkopeoAndUmoci(t *testing.T) {
	store := openStore(t)
	dir := t.TempDir()
	ours, theirs, archive := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs"), filepath.Join(dir, "ours.tar")
	l := builtLayer(t, store, testkit.Tar(
		testkit.Entry{Name: "hello", Mode: 0o644, Data: []byte("hello\n")},
		testkit.Entry{Name: "twice", HardLink: "hello"}))
	img := assemble(t, store, pack(t, store, l, PackOptions{}))
	writeTo(t, img, ours, "app:1")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteArchive(t.Context(), img, refs(t, "app:1"), f); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"oci:" + ours + ":1", "oci-archive:" + archive + ":1"} {
		var config oci.Image
		if err := json.Unmarshal(run(t, "skopeo", "inspect", "--config", from), &config); err != nil {
			t.Fatal(err)
		}
		if config.Architecture != "amd64" || len(config.RootFS.DiffIDs) != 1 {
			t.Errorf("skopeo reads %s as %+v", from, config)
		}
	}
	run(t, "skopeo", "copy", "oci:"+ours+":1", "oci:"+theirs+":copied")
	got := resolve(t, Layout{Path: theirs, Tag: "copied"}, "x")
	if got.Digest != img.Digest {
		t.Errorf("skopeo's copy is %s, ours %s", got.Digest, img.Digest)
	}
	if err := ValidateLayout(t.Context(), theirs); err != nil {
		t.Error(err)
	}
	bundle := filepath.Join(dir, "bundle")
	run(t, "umoci", "unpack", "--image", ours+":1", bundle)
	for _, name := range []string{"hello", "twice"} {
		if b, err := os.ReadFile(filepath.Join(bundle, "rootfs", name)); err != nil || string(b) != "hello\n" {
			t.Errorf("umoci unpacked %s as %q (%v)", name, b, err)
		}
	}
	// A layer that umoci wrote.
	put(t, filepath.Join(bundle, "rootfs", "added"), []byte("added\n"))
	run(t, "umoci", "repack", "--image", theirs+":changed", bundle)
	changed := resolve(t, Layout{Path: theirs, Tag: "changed"}, "x")
	layers, err := EnsureLayers(t.Context(), store, changed)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(layers[len(layers)-1].Dir, "added")); err != nil || string(b) != "added\n" {
		t.Errorf("umoci's layer has added as %q (%v)", b, err)
	}
}

func TestBusyboxRuns(t *testing.T) {
	store := openStore(t)
	dir := testkit.BusyboxLayout(t)
	img, err := Layout{Path: dir}.Resolve(t.Context(), oci.Reference{}, oci.HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateLayout(t.Context(), dir); err != nil {
		t.Error(err)
	}
	layers, err := EnsureLayers(t.Context(), store, img)
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "chroot", layers[0].Dir, "/bin/sh", "-c", "echo $(cat /etc/group | wc -l)"); string(out) != "2\n" {
		t.Errorf("the shell printed %q", out)
	}
}

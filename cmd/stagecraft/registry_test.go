package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"stagecraft/internal/testkit"
)

// pulling is a build on a base that a registry serves as docker.io/library/base.
type pulling struct {
	*program
	registry *testkit.Registry
}

func newPulling(t testing.TB, files map[string]string) *pulling {
	t.Helper()
	p := &pulling{newProgram(t, files), testkit.NewRegistry(t)}
	p.mirror(p.registry.Host + "/hub")
	return p
}

// mirror makes docker.io be asked at address.
func (p *pulling) mirror(address string) {
	p.t.Helper()
	config := filepath.Join(filepath.Dir(p.dir), "config.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\nmirrors = [\"http://%s\"]\n", address)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.env = append(p.env, "STAGECRAFT_CONFIG="+config)
}

const onBase = `FROM busybox AS tools
FROM base:1
COPY file /copied
RUN cat /copied > /result
CMD ["cat", "/result"]
`

func TestBaseFromMirror(t *testing.T) {
	t.Parallel()
	p := newPulling(t, map[string]string{"Dockerfile": onBase, "file": "content\n"})
	p.registry.RequireToken()
	p.registry.Push(t, "hub/library/base:1", testkit.BusyboxImage(t))
	p.succeed("build", "-t", "app", ".")
	if got := p.registry.Requests(); got.Manifests == 0 || got.Blobs < 2 {
		t.Errorf("the registry had %+v", got)
	}
	if got := p.succeed("run", "app").stdout; got != "content\n" {
		t.Errorf("the image prints %q", got)
	}

	// What is here is not asked for again.
	p.registry.Requests()
	got := p.succeed("build", "-t", "app", ".")
	if n := p.registry.Requests(); n.Total() != 0 {
		t.Errorf("an unchanged rebuild asked the registry: %+v", n)
	}
	if !strings.Contains(got.stderr, "0 steps run, 2 cached") {
		t.Errorf("an unchanged rebuild ran steps:\n%s", got.stderr)
	}
	p.write(map[string]string{"file": "changed\n"})
	p.succeed("build", "-t", "app", ".")
	if n := p.registry.Requests(); n.Total() != 0 {
		t.Errorf("a rebuild of changed sources asked the registry: %+v", n)
	}
	p.registry.Close()
	p.succeed("build", "-t", "app", ".")

	// With --pull it is.
	p.run("build", "--pull", "-t", "app", ".").wantError(t, exitImage, "Dockerfile:2 FROM base:1", "cannot be reached")
}

// Whatever goes wrong with a base image, the message says which FROM it was,
// nothing is kept, and the same build succeeds when the registry is well again.
func TestBaseFaults(t *testing.T) {
	img := testkit.BusyboxImage(t)
	layer := baseLayer(t, img)
	tests := map[string]struct {
		fault testkit.Fault
		what  string
	}{
		"not found":          {testkit.Fault{Path: "/manifests/", Status: 404}, "not found"},
		"denied":             {testkit.Fault{Path: "/manifests/", Status: 401}, "denie"},
		"server error":       {testkit.Fault{Status: 500}, "cannot be reached"},
		"connections reset":  {testkit.Fault{Reset: true}, "cannot be reached"},
		"manifest cut short": {testkit.Fault{Path: "/manifests/", Short: 100}, "base:1"},
		"config damaged":     {testkit.Fault{Path: "/blobs/", Flip: true}, "digest"},
		"layer damaged":      {testkit.Fault{Path: layer.Hex, Flip: true}, layer.String()},
		"layer truncated":    {testkit.Fault{Path: layer.Hex, Short: 4096}, layer.String()},
		"layer cut off":      {testkit.Fault{Path: layer.Hex, Cut: 4096}, layer.String()},
		"layer missing":      {testkit.Fault{Path: layer.Hex, Status: 404}, "not found"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPulling(t, map[string]string{"Dockerfile": onBase, "file": "content\n"})
			full := p.registry.Push(t, "base:1", img)
			p.write(map[string]string{"Dockerfile": strings.ReplaceAll(onBase, "base:1", full)})
			p.registry.Fail(test.fault)
			p.run("build", "-t", "app", ".").wantError(t, exitImage, "Dockerfile:2 FROM "+full, test.what)
			p.wantNoImages()
			p.registry.Heal()
			p.succeed("build", "-t", "app", ".")
			if got := p.succeed("run", "app").stdout; got != "content\n" {
				t.Errorf("after healing the image prints %q", got)
			}
		})
	}
}

// Bases that have their lower layers in common are each pulled whole, whichever
// comes first.
func TestBasesThatShareLayers(t *testing.T) {
	t.Parallel()
	common := testkit.BusyboxTar(t)
	top := func(name string) []byte {
		return testkit.Tar(testkit.Entry{Name: name, Mode: 0o644, Data: []byte(name + "\n")})
	}
	p := newPulling(t, nil)
	p.registry.Push(t, "hub/library/small:1", testkit.Image(t, testkit.ImageOptions{Tars: [][]byte{common}}))
	p.registry.Push(t, "hub/library/left:1", testkit.Image(t, testkit.ImageOptions{Tars: [][]byte{common, top("left")}}))
	p.registry.Push(t, "hub/library/right:1", testkit.Image(t, testkit.ImageOptions{Tars: [][]byte{common, top("right")}}))
	p.write(map[string]string{"Dockerfile": `FROM small:1 AS small
RUN echo small > /small
FROM left:1 AS left
RUN sleep 0.2; cat /left > /made
FROM right:1 AS right
RUN sleep 0.2; cat /right > /made
FROM small
COPY --from=left /made /l
COPY --from=right /made /r
CMD ["/bin/sh", "-c", "cat /small /l /r"]
`})
	p.succeed("build", "-t", "app", ".")
	if got := p.succeed("run", "app").stdout; got != "small\nleft\nright\n" {
		t.Errorf("the image prints %q", got)
	}
}

func TestBaseWithWrongDigest(t *testing.T) {
	t.Parallel()
	img := testkit.BusyboxImage(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p := newPulling(t, nil)
	pinned := p.registry.Push(t, "base:1", img) + "@" + digest.String()
	p.write(map[string]string{"Dockerfile": "FROM " + pinned + "\n"})
	p.registry.Fail(testkit.Fault{Path: "/manifests/", Flip: true})
	p.run("build", "-t", "app", ".").wantError(t, exitImage, "Dockerfile:1 FROM "+pinned[:30], "have digest sha256:")
	p.wantNoImages()
	p.registry.Heal()
	p.succeed("build", "-t", "app", ".")
}

// What of a base is in the store, but damaged, is had again from the registry.
func TestBaseDamagedInStore(t *testing.T) {
	t.Parallel()
	img := testkit.BusyboxImage(t)
	p := newPulling(t, map[string]string{"file": "content\n"})
	full := p.registry.Push(t, "base:1", img)
	p.write(map[string]string{"Dockerfile": strings.ReplaceAll(onBase, "base:1", full)})
	p.succeed("build", "-t", "app", ".")
	blob := filepath.Join(p.store, "blobs/sha256", baseLayer(t, img).Hex)
	// It can be decompressed, and is no archive: the digest has the last word.
	var damaged bytes.Buffer
	z := gzip.NewWriter(&damaged)
	_, err := z.Write(bytes.Repeat([]byte("damage"), 1000))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	layers := filepath.Join(p.store, "layers")
	err = errors.Join(os.WriteFile(blob, damaged.Bytes(), 0o600), os.RemoveAll(layers), os.Mkdir(layers, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	p.write(map[string]string{"file": "changed\n"})
	p.succeed("build", "-t", "app", ".")
	if got := p.succeed("run", "app").stdout; got != "changed\n" {
		t.Errorf("the image prints %q", got)
	}
}

func TestRegistryDown(t *testing.T) {
	t.Parallel()
	p := newPulling(t, map[string]string{"Dockerfile": onBase, "file": ""})
	full := p.registry.Host + "/base:1"
	p.write(map[string]string{"Dockerfile": "FROM " + full + "\n"})
	p.registry.Close()
	p.run("build", "-t", "app", ".").wantError(t, exitImage, "Dockerfile:1 FROM "+full, p.registry.Host+" cannot be reached")
	p.wantNoImages()
}

// A layer that reaches out of its root writes nothing there, and the build that
// needs its bytes says of which base it is.
func TestHostileBases(t *testing.T) {
	marker := fmt.Sprintf("stagecraft-escape-%d", os.Getpid())
	for name, tar := range testkit.HostileTars(marker) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPulling(t, nil)
			full := p.registry.Push(t, "base:1", testkit.Image(t, testkit.ImageOptions{Tars: [][]byte{tar}}))
			p.write(map[string]string{"Dockerfile": "FROM " + full + "\nCOPY Dockerfile /\nRUN true\n"})
			p.run("build", "-t", "app", ".").wantError(t, exitImage, "Dockerfile:1 FROM "+full, "layer sha256:")
			p.wantNoImages()
			if _, err := os.Lstat(filepath.Join("/tmp", marker)); err == nil {
				t.Error("a layer wrote outside its root")
			}
			p.registry.Push(t, "base:1", testkit.BusyboxImage(t))
			p.succeed("build", "--pull", "-t", "app", ".")
		})
	}
}

// A build without steps needs the layers only for its result.
func TestBaseFaultsWithoutSteps(t *testing.T) {
	t.Parallel()
	img := testkit.BusyboxImage(t)
	p := newPulling(t, nil)
	full := p.registry.Push(t, "base:1", img)
	p.write(map[string]string{"Dockerfile": "FROM " + full + "\nCMD [\"true\"]\n"})
	p.registry.Fail(testkit.Fault{Path: baseLayer(t, img).Hex, Short: 4096})
	output := "type=oci,dest=" + filepath.Join(p.dir, "app.tar")
	for _, args := range [][]string{{"-t", "app"}, {"-o", output}, {"-o", "out"}} {
		got := p.run(append(append([]string{"build"}, args...), ".")...)
		got.wantError(t, exitImage, "Dockerfile:1 FROM "+full, "ends after 4096 of")
	}
	p.wantNoImages()
	left, err := filepath.Glob(filepath.Join(p.dir, "*app.tar*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the output was begun: %v, %v", left, err)
	}
	p.registry.Heal()
	p.succeed("build", "-t", "app", ".")
	p.succeed("build", "-o", output, ".")
	p.succeed("run", "app")
}

// Archives in a build context, where ADD unpacks them. A symlink in one is
// followed as the programs in the image would follow it: inside the root.
func TestHostileArchives(t *testing.T) {
	busybox := "busybox=oci-layout://" + testkit.BusyboxLayout(t)
	marker := fmt.Sprintf("stagecraft-add-%d", os.Getpid())
	for name, tar := range testkit.HostileTars(marker) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, map[string]string{"Dockerfile": "FROM busybox\nADD made.tar /sub/\n", "made.tar": string(tar)})
			got := p.run("build", "-t", "app", "--build-context", busybox, ".")
			if strings.HasSuffix(name, "symlink") && name != "hard link through symlink" {
				p.succeed("run", "app", "cat", "/sub/tmp/"+marker)
			} else {
				got.wantError(t, exitInput, "Dockerfile:2 ADD made.tar /", "archive")
				p.wantNoImages()
			}
			if _, err := os.Lstat(filepath.Join("/tmp", marker)); err == nil {
				t.Error("an archive wrote outside the root")
			}
			p.write(map[string]string{"made.tar": string(testkit.Tar(testkit.Entry{Name: "fine", Mode: 0o644}))})
			p.succeed("build", "-t", "app", "--build-context", busybox, ".")
		})
	}
}

func baseLayer(t testing.TB, img v1.Image) v1.Hash {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"stagecraft/internal/image"
	"stagecraft/internal/testkit"
)

// Other people's tools, from the distribution. One that is missing is a failure.

// tool runs a program to its end and returns what it prints.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// podmanArgs are for a machine where limits cannot be raised, with all state in dir.
func podmanArgs(dir string, args ...string) []string {
	return append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--events-backend", "none",
		"--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm", "--quiet", "--network", "host",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"}, args...)
}

// unpack makes a runc bundle of an image layout, with the host's network.
func unpack(t testing.TB, layout, bundle string, env ...string) {
	t.Helper()
	tool(t, "umoci", "unpack", "--image", layout+":latest", bundle)
	path := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Process map[string]any `json:"process"`
		Linux   map[string]any `json:"linux"`
		Rest    map[string]any `json:"-"`
	}
	if err := errors.Join(json.Unmarshal(b, &config), json.Unmarshal(b, &config.Rest)); err != nil {
		t.Fatal(err)
	}
	config.Process["terminal"] = false
	delete(config.Process, "rlimits") // cannot be raised everywhere
	for _, e := range env {
		config.Process["env"] = append(config.Process["env"].([]any), e)
	}
	var namespaces []any
	for _, n := range config.Linux["namespaces"].([]any) {
		if n.(map[string]any)["type"] != "network" {
			namespaces = append(namespaces, n)
		}
	}
	config.Linux["namespaces"] = namespaces
	config.Rest["process"], config.Rest["linux"] = config.Process, config.Linux
	if b, err = json.Marshal(config.Rest); err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// runcCommand runs a bundle as a container of that name.
func runcCommand(t testing.TB, bundle, name string) *exec.Cmd {
	root := bundle + ".state"
	t.Cleanup(func() {
		// A container that has ended is gone, and this an error.
		exec.Command("runc", "--root", root, "delete", "--force", name).Run() //nolint:errcheck
	})
	return exec.CommandContext(t.Context(), "runc", "--root", root, "run", "--bundle", bundle, name)
}

// exported is an example that was built into all forms.
type exported struct {
	*program
	name            string
	archive, layout string
}

// export builds an example three times over, and has our validator and skopeo
// read what comes out.
func export(t testing.TB, p *program, name string, flags []string) exported {
	t.Helper()
	out := t.TempDir()
	e := exported{p, name, filepath.Join(out, name+".tar"), filepath.Join(out, name)}
	meta := filepath.Join(out, "meta.json")
	build := append([]string{"build", "-t", name, "--metadata-file", meta}, flags...)
	p.succeed(append(build, ".")...)
	p.succeed(append(build, "-o", "type=oci,dest="+e.archive, "-o", "type=oci,tar=false,dest="+e.layout, ".")...)
	var facts map[string]any
	b, err := os.ReadFile(meta)
	if err == nil {
		err = json.Unmarshal(b, &facts)
	}
	if err != nil {
		t.Fatal(err)
	}
	unpacked := filepath.Join(out, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "tar", "-xf", e.archive, "-C", unpacked)
	for _, dir := range []string{e.layout, unpacked} {
		if err := image.ValidateLayout(t.Context(), dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, source := range []string{"oci-archive:" + e.archive, "oci:" + e.layout + ":latest"} {
		var seen struct {
			Digest string
			Layers []string
		}
		if err := json.Unmarshal([]byte(tool(t, "skopeo", "inspect", source)), &seen); err != nil {
			t.Fatal(err)
		}
		if seen.Digest != facts["containerimage.digest"] || len(seen.Layers) == 0 {
			t.Errorf("skopeo reads %s as %+v; the build said %v", source, seen, facts)
		}
	}
	return e
}

// size is the sum of the sizes of an image's files, unpacked, in bytes.
func (e exported) size(name string) (bytes int64) {
	e.t.Helper()
	var info struct {
		Size int64 `json:"size"`
	}
	if err := json.Unmarshal([]byte(e.succeed("inspect", "--format", "json", name).stdout), &info); err != nil {
		e.t.Fatal(err)
	}
	return info.Size
}

// The simple example prints the same in our hands, in podman's, and in runc's
// on what umoci unpacked.
func TestExampleSimple(t *testing.T) {
	p := exampleProgram(t, "simple")
	e := export(t, p, "simple", []string{"--build-context", "busybox=oci-layout://" + testkit.BusyboxLayout(t)})
	want := p.succeed("run", "simple").stdout
	if !strings.Contains(want, "BUILD: ") {
		t.Errorf("stagecraft run prints %q", want)
	}
	state := t.TempDir()
	t.Cleanup(func() {
		// Podman may leave its storage mounted over itself.
		if err := unix.Unmount(state+"/root/overlay", unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			t.Error(err)
		}
	})
	if got := tool(t, "podman", podmanArgs(state, "oci-archive:"+e.archive)...); got != want {
		t.Errorf("podman run prints %q, stagecraft run %q", got, want)
	}
	bundle := filepath.Join(state, "bundle")
	unpack(t, e.layout, bundle)
	got, err := runcCommand(t, bundle, fmt.Sprintf("stagecraft-simple-%d", os.Getpid())).Output()
	if string(got) != want || err != nil {
		t.Errorf("runc run prints %q (%v), stagecraft run %q", got, err, want)
	}
}

// exampleProgram is the program in the directory of an example.
func exampleProgram(t testing.TB, name string) *program {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("../../examples", name))
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, nil)
	p.dir = dir
	return p
}

// basesVariable names the directory of an OCI layout with base images under
// their full names. Examples whose bases it has are built; without it, and
// outside of CI, only those that busybox can build.
const basesVariable = "STAGECRAFT_TEST_BASES"

// exampleBases returns the build contexts of the examples that have their bases
// in the layout, by example.
//
// Under the race detector there are none: unpacking toolchains takes many
// minutes then, and runs the same code as the small images of other tests.
func exampleBases(t *testing.T) map[string][]string {
	if underRace {
		return nil
	}
	dir := os.Getenv(basesVariable)
	if dir == "" {
		if os.Getenv("CI") != "" {
			t.Errorf("%s is not set: it names an OCI layout with the base images of the examples (golang, node, ...)", basesVariable)
		}
		return nil
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		t.Fatalf("%s=%s: %v", basesVariable, dir, err)
	}
	have := map[string]string{}
	for _, m := range index.Manifests {
		have[m.Annotations["org.opencontainers.image.ref.name"]] = "oci-layout://" + dir + "@" + m.Digest
	}
	paths, err := filepath.Glob("../../examples/*/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	examples := map[string][]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		flags, missing := contextFlags(string(text), have)
		switch {
		case missing == "":
			examples[name] = flags
		case os.Getenv("CI") != "":
			t.Errorf("example %s: its base %s is not in %s=%s", name, missing, basesVariable, dir)
		}
	}
	delete(examples, "simple")
	return examples
}

// contextFlags are the --build-context flags for the bases of one of our own
// Dockerfiles.
func contextFlags(dockerfile string, have map[string]string) (flags []string, missing string) {
	from := regexp.MustCompile(`(?m)^FROM (\S+)(?: AS (\S+))?$`)
	stages := map[string]bool{"scratch": true}
	bases := map[string]string{}
	for _, m := range from.FindAllStringSubmatch(dockerfile, -1) {
		name := m[1]
		stage := stages[name]
		stages[m[2]] = true
		if stage {
			continue
		}
		full := name
		if !strings.Contains(full, "/") {
			full = "docker.io/library/" + full
		}
		if !strings.Contains(filepath.Base(full), ":") {
			full += ":latest"
		}
		if have[full] == "" {
			return nil, full
		}
		bases[name] = have[full]
	}
	for name, address := range maps.All(bases) {
		flags = append(flags, "--build-context", name+"="+address)
	}
	return flags, ""
}

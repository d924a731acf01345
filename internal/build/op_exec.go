package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"stagecraft/internal/cache"
	"stagecraft/internal/graph"
	"stagecraft/internal/oci"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/snapshot"
)

// execOp is RUN.
type execOp graph.Exec

func (op *execOp) overlies(v *graph.Vertex) bool { return len(v.Inputs) > 0 }

func (op *execOp) key(_ context.Context, _ *runner, v *graph.Vertex, in []*value, k *cache.Key) error {
	k.Add("op", "exec")
	for _, a := range op.Args {
		k.Add("arg", a)
	}
	for _, e := range op.Env {
		k.Add("env", e)
	}
	k.Add("dir", op.Dir)
	k.Add("user", op.User)
	k.Add("network", string(op.Network))
	for _, f := range op.Files {
		k.Add("file", fmt.Sprintf("%s %o %s", f.Path, f.Mode, oci.FromBytes(f.Data)))
	}
	if op.overlies(v) {
		k.Add("root", in[0].Content().String())
	}
	return nil
}

func (op *execOp) run(ctx context.Context, r *runner, v *graph.Vertex, in []*value, out *stepLog) (*cache.Layer, error) {
	var stack *snapshot.Stack
	if op.overlies(v) {
		stack = in[0].stack
	}
	layers, err := r.layers(ctx, stack)
	if err != nil {
		return nil, err
	}
	root, err := snapshot.Prepare(r.Store, layers)
	if err != nil {
		return nil, err
	}
	defer root.Discard() //nolint:errcheck // the lease removes what is left
	files, err := r.sandboxFiles()
	if err != nil {
		return nil, err
	}
	spec, err := op.spec(files, r.Store)
	if err != nil {
		return nil, err
	}
	status, err := r.Sandbox.Run(ctx, &sandbox.Container{Rootfs: root.Rootfs(), Spec: spec},
		sandbox.IO{Stdout: out, Stderr: out})
	if err == nil && status != (sandbox.Status{}) {
		err = &ExitError{Status: status}
	}
	if err != nil && r.Store.Full() {
		return nil, fmt.Errorf("%w, and the store is full: %w", err, unix.ENOSPC)
	}
	if err != nil {
		return nil, err
	}
	return root.Commit(ctx)
}

// ExitError says that a command ran and did not succeed.
type ExitError struct{ Status sandbox.Status }

func (e *ExitError) Error() string {
	if e.Status.Signal != 0 {
		return "the command was " + e.Status.String()
	}
	return "the command ended with " + e.Status.String()
}

func (op *execOp) spec(files *sandboxFiles, store *cache.Store) (*specs.Spec, error) {
	spec := files.spec()
	spec.Process.Args = op.Args
	spec.Process.Env = slices.Concat(op.Env, op.Proxy)
	spec.Process.Cwd = op.Dir
	spec.Process.User.Username = op.User
	if op.Network == graph.NetworkNone {
		spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}
	}
	if len(op.Files) == 0 {
		return spec, nil
	}
	dir, err := store.TempDir("files")
	if err != nil {
		return nil, err
	}
	for i, f := range op.Files {
		path := filepath.Join(dir, strconv.Itoa(i))
		mode := os.FileMode(f.Mode)
		if err := errors.Join(os.WriteFile(path, f.Data, mode), os.Chmod(path, mode)); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		spec.Mounts = append(spec.Mounts, bindMount(path, f.Path))
	}
	return spec, nil
}

// sandboxFiles are the files that every sandbox of a build has mounted: the
// host's resolver configuration, and its host names with the sandbox's own.
type sandboxFiles struct {
	base   *specs.Spec
	resolv string
	hosts  string
}

func newSandboxFiles(store *cache.Store) (*sandboxFiles, error) {
	base, err := sandbox.DefaultSpec()
	if err != nil {
		return nil, err
	}
	dir, err := store.TempDir("etc")
	if err != nil {
		return nil, err
	}
	f := &sandboxFiles{base: base, resolv: filepath.Join(dir, "resolv.conf"), hosts: filepath.Join(dir, "hosts")}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(hosts) == 0 {
		hosts = []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	hosts = append(hosts, "\n127.0.0.1\t"+sandbox.Hostname+"\n"...)
	return f, errors.Join(writePublic(f.resolv, resolv), writePublic(f.hosts, hosts))
}

// writePublic writes a file that any user may read, whatever the umask is.
func writePublic(path string, b []byte) error {
	return errors.Join(os.WriteFile(path, b, 0o644), os.Chmod(path, 0o644))
}

// spec is a copy that the caller may change in Process, Mounts and Linux.
func (f *sandboxFiles) spec() *specs.Spec {
	s := *f.base
	process, linux := *s.Process, *s.Linux
	s.Process, s.Linux = &process, &linux
	s.Mounts = append(append([]specs.Mount(nil), s.Mounts...),
		bindMount(f.resolv, "/etc/resolv.conf"), bindMount(f.hosts, "/etc/hosts"))
	return &s
}

func bindMount(source, dest string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"bind", "ro"}}
}

package build

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"

	"stagecraft/internal/cache"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/snapshot"
)

// RunOptions are those of docker run.
type RunOptions struct {
	Env        []string // NAME=value, or NAME to pass on the caller's
	Dir        string
	User       string
	Entrypoint *string  // nil keeps the image's; "" clears it
	Args       []string // in place of the image's CMD
	IO         sandbox.IO
	Ready      func() // called when all is built, before the container starts; may be nil
}

// RunImage runs a container of an image of the local store in the foreground.
// What it writes is dropped when it ends.
func (b *Builder) RunImage(ctx context.Context, name string, o RunOptions) (sandbox.Status, error) {
	stored, err := image.NewImages(b.Store).Find(name)
	if err != nil {
		return sandbox.Status{}, AsFailure(err)
	}
	img, err := image.NewImages(b.Store).Open(stored)
	if err != nil {
		return sandbox.Status{}, AsFailure(err)
	}
	layers := make([]*cache.Layer, len(stored.Layers))
	for i, id := range stored.Layers {
		if layers[i], err = b.Store.Layer(id); err != nil {
			return sandbox.Status{}, AsFailure(err)
		}
	}
	return b.run(ctx, layers, img.Config.Config, o)
}

// RunStage builds up to a stage and runs a container of it.
func (b *Builder) RunStage(ctx context.Context, req Request, o RunOptions) (sandbox.Status, error) {
	s, err := b.open(ctx, req, newReporter(req.Observe))
	if err != nil {
		return sandbox.Status{}, err
	}
	defer s.close()
	target, err := s.solve(ctx, req.jobs())
	if err != nil {
		return sandbox.Status{}, err
	}
	layers, err := s.layers(ctx, target.stack)
	if err != nil {
		return sandbox.Status{}, AsFailure(err)
	}
	return b.run(ctx, layers, s.plan.Config.Config, o)
}

func (b *Builder) run(ctx context.Context, layers []*cache.Layer, c oci.Config, o RunOptions) (sandbox.Status, error) {
	var none sandbox.Status
	if err := checkUser(); err != nil {
		return none, err
	}
	args := command(c, o)
	if len(args) == 0 {
		return none, &Failure{Kind: BadInput, Where: "run", Err: errors.New("the image has no command"),
			Hint: "say which one to run behind the image's name"}
	}
	if o.Ready != nil {
		o.Ready()
	}
	root, err := snapshot.Prepare(b.Store, layers)
	if err != nil {
		return none, AsFailure(err)
	}
	defer root.Discard() //nolint:errcheck // the lease removes what is left
	files, err := newSandboxFiles(b.Store)
	if err != nil {
		return none, AsFailure(err)
	}
	spec := files.spec()
	spec.Process.Args = args
	spec.Process.Env = environment(c.Env, o.Env)
	spec.Process.Cwd = workDir(c.WorkingDir, o.Dir)
	spec.Process.User.Username = c.User
	if o.User != "" {
		spec.Process.User.Username = o.User
	}
	status, err := b.Sandbox.Run(ctx, &sandbox.Container{Rootfs: root.Rootfs(), Spec: spec}, o.IO)
	if err != nil && ctx.Err() == nil {
		var missing *sandbox.ExecError
		if errors.As(err, &missing) {
			return none, err
		}
		return none, AsFailure(err)
	}
	return status, err
}

// command is the process that entry point and arguments make, by the rules of
// docker run: an entry point of the caller's drops the image's CMD.
func command(c oci.Config, o RunOptions) []string {
	entry, args := c.Entrypoint, c.Cmd
	if o.Entrypoint != nil {
		entry, args = nil, nil
		if *o.Entrypoint != "" {
			entry = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		args = o.Args
	}
	return append(append([]string(nil), entry...), args...)
}

// environment is the image's with the caller's on top.
func environment(image, own []string) []string {
	env := append([]string(nil), image...)
	if !hasName(env, "PATH") {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	for _, kv := range own {
		name, _, hasValue := strings.Cut(kv, "=")
		if !hasValue {
			v, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			kv = name + "=" + v
		}
		env = append(without(env, name), kv)
	}
	return env
}

func hasName(env []string, name string) bool { return len(without(env, name)) != len(env) }

func without(env []string, name string) []string {
	var out []string
	for _, kv := range env {
		if n, _, _ := strings.Cut(kv, "="); n != name {
			out = append(out, kv)
		}
	}
	return out
}

// workDir is the caller's directory, relative to the image's.
func workDir(image, own string) string {
	if path.IsAbs(own) {
		return path.Clean(own)
	}
	return path.Join("/", image, own)
}

package main

import (
	"context"
	"os"
	"os/signal"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"stagecraft/internal/build"
	"stagecraft/internal/sandbox"
)

func newRunCommand() *cobra.Command {
	var f buildFlags
	var o build.RunOptions
	var entrypoint string
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [ARG...] | run --target STAGE [flags] PATH [-- COMMAND...]",
		Short: "Run a container of an image, or of a stage of a Dockerfile",
		Example: `  stagecraft run app
  stagecraft run -e PORT=9000 app
  stagecraft run --target build . -- ls -l /out`,
		Args: args(cobra.MinimumNArgs(1), "name an image of 'stagecraft images', or --target STAGE and a directory"),
		RunE: func(c *cobra.Command, a []string) error {
			if c.Flags().Changed("entrypoint") {
				o.Entrypoint = &entrypoint
			}
			o.Args = a[1:]
			if f.target != "" && len(o.Args) > 0 && o.Args[0] == "--" {
				o.Args = o.Args[1:]
			}
			return runContainer(c.Context(), &f, o, a[0])
		},
	}
	fs := c.Flags()
	fs.SetInterspersed(false) // what follows the image belongs to the container
	fs.Bool("rm", true, "remove the container when it ends, as is always done")
	fs.StringArrayVarP(&o.Env, "env", "e", nil, "environment variable: NAME=VALUE, or NAME to pass it on")
	fs.StringVarP(&o.Dir, "workdir", "w", "", "working directory")
	fs.StringVarP(&o.User, "user", "u", "", "user[:group], by name or number")
	fs.StringVar(&entrypoint, "entrypoint", "", "in place of the image's ENTRYPOINT")
	f.planFlags(fs)
	f.runFlags(fs)
	return c
}

func runContainer(ctx context.Context, f *buildFlags, o build.RunOptions, name string) error {
	o.IO = sandbox.IO{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	ctx, ready, signals := containerSignals(ctx)
	o.IO.Signals = signals
	o.Ready = ready
	var status sandbox.Status
	err := withBuilder(func(b *build.Builder) (err error) {
		if f.target == "" {
			status, err = b.RunImage(ctx, name, o)
			return err
		}
		req, err := f.request(name)
		if err != nil {
			return err
		}
		show, err := newProgress(f.progress)
		if err != nil {
			return err
		}
		closeOnce := sync.OnceFunc(show.close)
		defer closeOnce()
		req.Observe = show.observe
		o.Ready = func() { closeOnce(); ready() }
		if len(o.Args) > 0 && o.Entrypoint == nil {
			// A command for a stage is the whole command: an ENTRYPOINT of the
			// stage would only be in the way of looking around.
			o.Entrypoint = new(string)
		}
		status, err = b.RunStage(ctx, req, o)
		return err
	})
	if err == nil && status != (sandbox.Status{}) {
		err = &statusError{status}
	}
	return err
}

// containerSignals says what signals do: until ready is called they end the
// build; then they go to the container, as docker run has it, and the second
// one ends it.
func containerSignals(parent context.Context) (ctx context.Context, ready func(), forward <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	started := make(chan struct{})
	in, out := make(chan os.Signal, 8), make(chan os.Signal, 1)
	signal.Notify(in, os.Interrupt, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		for first := true; ; first = false {
			s := <-in
			select {
			case <-started:
				if first {
					out <- s
					continue
				}
			default:
			}
			cancel()
		}
	}()
	return ctx, sync.OnceFunc(func() { close(started) }), out
}

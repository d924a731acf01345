// Command bench measures stagecraft against other builders, all in one run on one
// file system, and prints medians and their ratios.
//
//	bench [-runs N] [-quick] [-only NAME,...] [-tools NAME,...] [-here] [-md]
//
// It runs as root in the project's root directory, after make build. buildah comes
// from the distribution. BuildKit takes part where the environment variables
// BUILDKITD and BUILDCTL name its binaries. BASES may name the directory of an OCI
// layout with docker.io/library/golang:1.26; else the Go build starts from an image
// of this machine's Go toolchain and busybox.
//
// Every tool gets a store of its own on one new ext4 file system, in a file, mounted
// at .work/bench; -here takes the file system that is there. Tools take turns within a
// round, so that what else the machine does falls on all of them; a first round is
// not counted. In the last round what was built is read back and held against what
// went in: a tool that is fast and wrong ends the run with an error. Nothing is left
// behind: processes are ended by their id, mounts and stores removed.
//
// Start reading at workload.go: what is measured. builder.go: what a tool must do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// workDir holds stores, inputs and outputs while the program runs.
const workDir = ".work/bench"

// options are the flags.
type options struct {
	runs      int
	only      string // workloads, comma-separated; "" is all
	tools     string // tools, comma-separated; "" is all
	here      bool   // stores on the file system of the working directory
	writeFile bool
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "rounds that count")
	quick := flag.Bool("quick", false, "three rounds")
	flag.StringVar(&o.only, "only", "", "workloads to run, comma-separated: "+strings.Join(workloadNames(), ", "))
	flag.StringVar(&o.tools, "tools", "", "tools to measure, comma-separated: stagecraft, buildkit, buildah")
	flag.BoolVar(&o.here, "here", false, "measure on the working directory's file system, not on a new one in a file")
	flag.BoolVar(&o.writeFile, "md", false, "write the result into "+resultFile)
	flag.Parse()
	if *quick {
		o.runs = 3
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.runs < 1 {
		return fmt.Errorf("-runs %d: at least one round is needed", o.runs)
	}
	if os.Geteuid() != 0 {
		return errors.New("stores of builders are made as root here")
	}
	dir, err := filepath.Abs(workDir)
	if err != nil {
		return err
	}
	if err := lock(dir + ".lock"); err != nil {
		return err
	}
	image := dir + ".img"
	cleanUp := func() error { return errors.Join(removeTree(dir), os.RemoveAll(image)) }
	if err := cleanUp(); err != nil { // after a run that was killed
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	if !o.here {
		if err := mountImage(ctx, image, dir); err != nil {
			return err
		}
	}
	loads, err := selectWorkloads(o.only)
	if err != nil {
		return err
	}
	builders, err := openBuilders(ctx, dir, o.tools)
	if err != nil {
		return err
	}
	defer func() {
		for _, b := range builders {
			err = errors.Join(err, b.close())
		}
	}()
	in, err := makeInputs(ctx, filepath.Join(dir, "inputs"))
	if err != nil {
		return fmt.Errorf("make inputs: %w", err)
	}
	m, err := describeMachine(ctx, dir, o.here, builders)
	if err != nil {
		return err
	}
	r := newResults(o.runs, builders, in)
	for _, w := range loads {
		if err := measure(ctx, w, in, builders, r); err != nil {
			return err
		}
	}
	m.loadAfter = loadAverage()
	fmt.Print(r.text(m))
	if o.writeFile {
		return writeMarkdown(resultFile, r.markdown(m))
	}
	return nil
}

// measure runs all rounds of a workload: one that does not count, and r.runs that do.
func measure(ctx context.Context, w workload, in *inputs, builders []builder, r *results) error {
	for round := 0; round <= r.runs; round++ {
		for _, b := range builders {
			s := &session{builder: b, inputs: in, round: round, last: round == r.runs, results: r}
			if err := w.run(ctx, s); err != nil {
				return fmt.Errorf("%s: %s: %w", w.name, b.name(), err)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %s\n", w.name, round, r.runs, b.name(), strings.Join(s.log, ", "))
		}
	}
	return nil
}

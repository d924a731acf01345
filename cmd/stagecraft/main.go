// Stagecraft builds container images from multi-stage Dockerfiles, without a
// daemon.
//
// This package only translates: flags to requests, events to text, errors to
// exit codes. The work is in internal/build.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"stagecraft/internal/build"
	"stagecraft/internal/sandbox"
)

func main() {
	sandbox.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		printError(err)
	}
	os.Exit(exitCode(err))
}

// Exit codes. "run" ends with the code of the command it ran.
const (
	exitStep        = 1   // an instruction did not succeed
	exitInput       = 2   // flags, Dockerfile or context are wrong
	exitImage       = 3   // an image could not be had
	exitStorage     = 4   // the store or an output could not be read or written
	exitRun         = 125 // run: the container could not be started
	exitInterrupted = 130
)

// statusError ends the program with the status of a container.
type statusError struct{ status sandbox.Status }

func (e *statusError) Error() string { return e.status.String() }

func exitCode(err error) int {
	var status *statusError
	var missing *sandbox.ExecError
	var f *build.Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		if status.status.Signal != 0 {
			return 128 + int(status.status.Signal)
		}
		return status.status.Code
	case errors.As(err, &f):
		switch f.Kind {
		case build.FailedStep:
			return exitStep
		case build.BadInput:
			return exitInput
		case build.NoImage:
			return exitImage
		case build.BadStorage:
			return exitStorage
		case build.Interrupted:
			return exitInterrupted
		}
	case errors.As(err, &missing):
		return missing.Code()
	}
	return exitStorage
}

// printError writes three lines at most: where, what happened, what to try.
func printError(err error) {
	var status *statusError
	if errors.As(err, &status) {
		return // the container has said what there was to say
	}
	var f *build.Failure
	if !errors.As(err, &f) {
		fmt.Fprintf(os.Stderr, "error: %s\n", printable(err.Error()))
		return
	}
	var lines []string
	if f.Where != "" {
		lines = append(lines, f.Where)
	}
	lines = append(lines, f.Err.Error())
	if f.Hint != "" {
		lines = append(lines, f.Hint)
	}
	lines[0] = "error: " + lines[0]
	fmt.Fprintln(os.Stderr, printable(strings.Join(lines, "\n  ")))
}

func usageError(what, hint string) error {
	return &build.Failure{Kind: build.BadInput, Err: errors.New(what), Hint: hint}
}

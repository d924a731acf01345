package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"stagecraft/internal/build"
	"stagecraft/internal/cache"
	"stagecraft/internal/image"
	"stagecraft/internal/sandbox"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "stagecraft",
		Short: "Build container images from multi-stage Dockerfiles, without a daemon",
		Long: `Stagecraft reads a Dockerfile, builds only the stages that the target needs, side by
side where it can, takes from its cache every step whose inputs did not change, and
leaves a small OCI image.

The store is in $STAGECRAFT_ROOT, else in /var/lib/stagecraft for root and in
$XDG_DATA_HOME/stagecraft (~/.local/share/stagecraft) for others.

Exit codes: 1 a step failed, 2 flags or Dockerfile are wrong, 3 an image could not be
had, 4 the store or an output could not be written, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(err.Error(), "see '"+c.CommandPath()+" --help'")
	})
	root.AddCommand(newBuildCommand(), newRunCommand(), newPlanCommand(), newImagesCommand(),
		newRemoveCommand(), newTagCommand(), newInspectCommand())
	return root
}

// args is cobra's check of the number of arguments, with our kind of error.
func args(check cobra.PositionalArgs, hint string) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return usageError(err.Error(), hint)
		}
		return nil
	}
}

// withBuilder opens the store for the time of one command.
func withBuilder(do func(*build.Builder) error) (err error) {
	config, err := image.FindConfig()
	if err != nil {
		return usageError("configuration file: "+err.Error(), "correct the file, or name another one with STAGECRAFT_CONFIG")
	}
	dir, err := storeDir()
	if err != nil {
		return err
	}
	store, err := cache.Open(dir)
	if err != nil {
		return &build.Failure{Kind: build.BadStorage, Err: err,
			Hint: "choose a directory you may write to with STAGECRAFT_ROOT"}
	}
	native := &sandbox.Native{}
	defer func() { err = errors.Join(err, native.Close(), store.Close()) }()
	return do(&build.Builder{Store: store, Sandbox: native, Config: config})
}

func storeDir() (string, error) {
	if dir := os.Getenv("STAGECRAFT_ROOT"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/stagecraft", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "stagecraft"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &build.Failure{Kind: build.BadStorage, Err: fmt.Errorf("store: %w", err), Hint: "set STAGECRAFT_ROOT"}
	}
	return filepath.Join(home, ".local", "share", "stagecraft"), nil
}

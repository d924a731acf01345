package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"stagecraft/internal/cache"
	"stagecraft/internal/image"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/testkit"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	// Most tests wait most of the time: for retries, sleeps and the disk.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"stagecraft": main})
}

// Every command of the program against the real store, sandbox and files. Each
// script has a store of its own; $BB names busybox as a build context, so that
// FROM busybox works.
func TestScripts(t *testing.T) {
	busybox := testkit.BusyboxLayout(t)
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			store := filepath.Join(env.WorkDir, ".store")
			env.Setenv("STAGECRAFT_ROOT", store)
			env.Setenv("BB", "busybox=oci-layout://"+busybox)
			env.Setenv("EXAMPLES", examples)
			env.Setenv("HOME", env.WorkDir)
			env.Defer(func() {
				if err := checkStore(store); err != nil {
					env.T().Fatal(err)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":    fails,
			"validate": validate,
		},
	})
}

// fails CODE COMMAND... runs a command and wants that exit code.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != want {
		ts.Fatalf("%s: %v, want exit code %d", strings.Join(args[1:], " "), err, want)
	}
}

// validate DIR checks an image layout with our validator.
func validate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: validate DIR")
	}
	ts.Check(image.ValidateLayout(context.Background(), ts.MkAbs(args[0])))
}

// checkStore validates every image that a store lists, and wants no temporary
// directory, lock or mount left.
func checkStore(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil // the script made none
	}
	for _, sub := range []string{"tmp", "locks"} {
		left, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, e := range left {
			if e.Name() != ".lock" {
				return fmt.Errorf("left in the store: %s/%s", sub, e.Name())
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		return fmt.Errorf("mounts left in %s: %v\n%s", dir, err, mounts)
	}
	store, err := cache.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	images := image.NewImages(store)
	list, err := images.List()
	if err != nil {
		return err
	}
	for _, stored := range list {
		img, err := images.Open(stored)
		if err == nil {
			err = image.ValidateImage(context.Background(), img)
		}
		if err != nil {
			return fmt.Errorf("image %s %v: %w", stored.ID, stored.Tags, err)
		}
	}
	return nil
}

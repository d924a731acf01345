// Command bases makes the images that Dockerfiles start from out of the
// distribution's packages, this machine's Go toolchain and npm's packages, for
// machines that reach no registry. stagecraft itself builds them, into its local
// store, under the names of the originals.
//
//	bases [-list] [NAME...]
//
// It runs in the project's root directory. Without names it makes all of them.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	stagecraft = "bin/stagecraft"
	rootDir    = ".work/debian" // the Debian root, as a build context
	logDir     = ".work/log"
)

func main() {
	list := flag.Bool("list", false, "print the names of all base images and make none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, list bool, names []string) error {
	all, err := baseImages(ctx, rootDir)
	if err != nil {
		return err
	}
	if list {
		for _, b := range all {
			fmt.Println(strings.Join(b.names, "\n"))
		}
		return nil
	}
	images, err := needed(all, names)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := makeRoot(ctx, rootDir); err != nil {
		return err
	}
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return err
	}
	return buildAll(ctx, images, func(b baseImage) {
		fmt.Printf("[%3.0fs] %s\n", time.Since(start).Seconds(), b.names[0])
	})
}

// buildAll builds every image as soon as those it starts from are there, two at a
// time: what two of them share is built once, the store sees to that.
func buildAll(ctx context.Context, images []baseImage, built func(baseImage)) error {
	done := map[string]chan struct{}{}
	for _, b := range images {
		done[b.names[0]] = make(chan struct{})
	}
	slots := make(chan struct{}, 2)
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range images {
		group.Go(func() error {
			for _, name := range b.needs {
				select {
				case <-done[name]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := b.build(ctx); err != nil {
				return err
			}
			built(b)
			close(done[b.names[0]])
			return nil
		})
	}
	return group.Wait()
}

func (b baseImage) build(ctx context.Context) error {
	dir := filepath.Join("hack/bases", b.dockerfile)
	args := []string{"build", "--progress", "plain", "-f", filepath.Join(dir, "Dockerfile")}
	if b.target != "" {
		args = append(args, "--target", b.target)
	}
	for _, name := range b.names {
		args = append(args, "-t", name)
	}
	// Predefined build arguments: how RUN steps reach the network, never part of an image.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if value := os.Getenv(name); value != "" {
			args = append(args, "--build-arg", name+"="+value)
		}
	}
	args = append(args, b.flags...)
	if b.context != "" {
		dir = b.context
	}
	out, err := exec.CommandContext(ctx, stagecraft, append(args, dir)...).CombinedOutput()
	log := filepath.Join(logDir, strings.Trim(b.dockerfile+"-"+b.target, "-")+".log")
	if writeErr := os.WriteFile(log, out, 0o644); writeErr != nil && err == nil {
		return writeErr
	}
	if err != nil {
		return fmt.Errorf("build %s: %w; the end of %s:\n%s", b.names[0], err, log, lastLines(out, 20))
	}
	return nil
}

// lastLines returns at most n lines of the end of b.
func lastLines(b []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

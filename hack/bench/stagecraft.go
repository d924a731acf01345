package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// stagecraft is the binary that make build left.
type stagecraft struct {
	dir   string
	path  string
	bases []base
}

func newStagecraft(dir string) (*stagecraft, error) {
	path, err := filepath.Abs("bin/stagecraft")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; run make build first", err)
	}
	return &stagecraft{dir: dir, path: path}, nil
}

func (s *stagecraft) name() string { return "stagecraft" }

// version is the commit in whose tree the binary was built.
func (s *stagecraft) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("git describe: %w", err)
	}
	return "stagecraft " + string(bytes.TrimSpace(out)), nil
}

func (s *stagecraft) reset(ctx context.Context, bases ...base) error {
	if err := s.close(); err != nil {
		return err
	}
	s.bases = bases
	return warmUp(ctx, s, s.dir, bases)
}

func (s *stagecraft) build(ctx context.Context, j job) (usage, error) {
	return s.run(ctx, j, "-t", j.name)
}

func (s *stagecraft) export(ctx context.Context, j job, dest string, archive bool) (usage, error) {
	return s.run(ctx, j, "-o", fmt.Sprintf("type=oci,dest=%s,tar=%t", dest, archive))
}

func (s *stagecraft) run(ctx context.Context, j job, more ...string) (usage, error) {
	args := []string{"build", "--progress", "plain", "-f", j.dockerfile}
	for _, b := range s.bases {
		args = append(args, "--build-context", b.name+"=oci-layout://"+b.dir+"@"+b.digest)
	}
	args = append(args, more...)
	u, _, err := execute(ctx, place{env: []string{"STAGECRAFT_ROOT=" + filepath.Join(s.dir, "store")}}, s.path, append(args, j.context)...)
	return u, err
}

// close also reports mounts, which stagecraft never leaves.
func (s *stagecraft) close() error {
	points, err := mountsBelow(s.dir)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("stagecraft left mounts: %q", points)
	}
	return discard(s.dir)
}

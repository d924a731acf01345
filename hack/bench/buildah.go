package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
)

// buildah is the distribution's, with a store of its own.
type buildah struct {
	dir  string
	path string
}

func (b *buildah) name() string { return "buildah" }

func (b *buildah) version(ctx context.Context) (string, error) {
	_, out, err := execute(ctx, place{}, b.path, "--version")
	return string(bytes.TrimSpace(out)), err
}

func (b *buildah) reset(ctx context.Context, bases ...base) error {
	if err := b.close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "tmp"), 0o755); err != nil {
		return err
	}
	for _, base := range bases {
		// The path becomes a name in the store, where not every path is one.
		layout := filepath.Base(base.dir)
		_, out, err := b.runIn(ctx, filepath.Dir(base.dir), "pull", "oci:"+layout+":"+base.ref)
		if err != nil {
			return err
		}
		if _, _, err := b.run(ctx, "tag", strings.TrimSpace(string(out)), "localhost/"+base.name); err != nil {
			return err
		}
	}
	return warmUp(ctx, b, b.dir, bases)
}

func (b *buildah) build(ctx context.Context, j job) (usage, error) {
	u, _, err := b.run(ctx, "build", "--isolation", "chroot", "--layers", "--pull=never",
		"-t", "localhost/"+j.name, "-f", j.dockerfile, j.context)
	return u, err
}

func (b *buildah) export(ctx context.Context, j job, dest string, archive bool) (usage, error) {
	transport := "oci:"
	if archive {
		transport = "oci-archive:"
	}
	u, _, err := b.run(ctx, "push", "--format", "oci", "localhost/"+j.name, transport+dest+":"+j.name)
	return u, err
}

func (b *buildah) run(ctx context.Context, args ...string) (usage, []byte, error) {
	return b.runIn(ctx, "", args...)
}

func (b *buildah) runIn(ctx context.Context, dir string, args ...string) (usage, []byte, error) {
	global := []string{"--root", filepath.Join(b.dir, "root"), "--runroot", filepath.Join(b.dir, "run"), "--storage-driver", "overlay"}
	return execute(ctx, place{dir: dir, env: []string{"TMPDIR=" + filepath.Join(b.dir, "tmp")}}, b.path, append(global, args...)...)
}

// close also ends the mount that buildah keeps on its store.
func (b *buildah) close() error { return discard(b.dir) }

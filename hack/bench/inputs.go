package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	smallFiles     = 20_000
	smallFileBytes = 2_000
	golangImage    = "docker.io/library/golang:1.26"
)

// base is one image in OCI layout that builds start from.
type base struct {
	name   string // in FROM
	dir    string // of the layout
	ref    string // org.opencontainers.image.ref.name in its index
	digest string // of the manifest
}

// inputs are the files that builds read. They are made once; only the small files
// and the Go program change, each change unlike all before.
type inputs struct {
	dir        string
	goroot     string // the toolchain, as a build context
	busybox    base
	golang     base
	golangFrom string // for people: where golang comes from

	toolchainFiles int
	toolchainBytes int64
	changes        int
}

func makeInputs(ctx context.Context, dir string) (*inputs, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	in := &inputs{dir: dir}
	if in.goroot, err = filepath.EvalSymlinks(strings.TrimSpace(string(out))); err != nil {
		return nil, err
	}
	for name, content := range sourceFiles {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	if err := in.makeSmallFiles(); err != nil {
		return nil, err
	}
	files, err := readDir(in.goroot)
	if err != nil {
		return nil, err
	}
	in.toolchainFiles = len(files)
	for _, f := range files {
		in.toolchainBytes += f.size
	}
	return in, in.makeBases(ctx)
}

func (in *inputs) job(name string) job {
	dir := filepath.Join(in.dir, name)
	return job{name: name, dockerfile: filepath.Join(dir, "Dockerfile"), context: filepath.Join(dir, "context")}
}

// makeSmallFiles writes files of a hundred directories, each file unlike the others.
func (in *inputs) makeSmallFiles() error {
	random := rand.NewChaCha8([32]byte{})
	content := make([]byte, smallFileBytes)
	for i := range smallFiles {
		if _, err := random.Read(content); err != nil {
			return err
		}
		if err := writeFile(in.smallFile(i), string(content)); err != nil {
			return err
		}
	}
	return nil
}

func (in *inputs) smallFile(i int) string {
	return filepath.Join(in.job("files").context, fmt.Sprintf("dir%02d/file%05d", i%100, i))
}

// changeSmallFile gives one of the small files content that it never had.
func (in *inputs) changeSmallFile() error {
	in.changes++
	content := fmt.Sprintf("%0*d", smallFileBytes, in.changes)
	return writeFile(in.smallFile(smallFiles/2), content)
}

// changeProgram makes the Go program print text that it never printed, and returns
// that text.
func (in *inputs) changeProgram() (string, error) {
	in.changes++
	text := fmt.Sprintf("build %d of %d", in.changes, time.Now().UnixNano())
	source := fmt.Sprintf("package main\n\nconst text = %q\n", text)
	return text, writeFile(filepath.Join(in.job("go").context, "text.go"), source)
}

// makeBases makes the base images with stagecraft, in a store that nothing else
// uses: busybox-static under all its names, and the toolchain on top of it, unless
// BASES names a directory that has a golang image.
func (in *inputs) makeBases(ctx context.Context) error {
	maker, err := newStagecraft(filepath.Join(in.dir, "maker"))
	if err != nil {
		return err
	}
	program, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	j := in.job("busybox")
	if err := copyFile(program, filepath.Join(j.context, "busybox")); err != nil {
		return err
	}
	dir := filepath.Join(in.dir, "bases")
	if in.busybox, err = makeBase(ctx, maker, j, "busybox", dir); err != nil {
		return err
	}
	if layout := os.Getenv("BASES"); layout != "" {
		in.golangFrom = "`" + golangImage + "` of an OCI layout"
		in.golang, err = readBase("golang", layout, golangImage)
	} else {
		in.golangFrom = "this machine's Go toolchain on busybox"
		maker.bases = []base{in.busybox}
		j := in.job("golang")
		j.context = in.goroot
		in.golang, err = makeBase(ctx, maker, j, "golang", dir)
	}
	return errors.Join(err, maker.close())
}

func makeBase(ctx context.Context, maker *stagecraft, j job, name, dir string) (base, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return base{}, err
	}
	dir = filepath.Join(dir, name)
	if _, err := maker.run(ctx, j, "-t", name+":bench", "-o", "type=oci,tar=false,dest="+dir); err != nil {
		return base{}, err
	}
	return readBase(name, dir, "")
}

// readBase finds an image of an OCI layout by its ref name; "" takes the first one.
func readBase(name, dir, ref string) (base, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return base{}, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return base{}, err
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return base{}, fmt.Errorf("%s/index.json: %w", dir, err)
	}
	for _, m := range index.Manifests {
		found := m.Annotations["org.opencontainers.image.ref.name"]
		if cmp.Or(ref, found) == found {
			return base{name: name, dir: dir, ref: found, digest: m.Digest}, nil
		}
	}
	return base{}, fmt.Errorf("%s: no image %s", dir, ref)
}

func writeFile(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

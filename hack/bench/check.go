package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// file is one regular file, or one more name of it.
type file struct {
	size   int64
	digest [sha256.Size]byte
}

// expectation is something that an image must have.
type expectation struct {
	files func(files map[string]file) error
	// program, if not "", is run, and prints output.
	program, output string
}

// hasText wants a file with a content.
func hasText(name, text string) expectation {
	return expectation{files: func(files map[string]file) error {
		if got := files[name]; got != fileOf([]byte(text)) {
			return fmt.Errorf("%s: %d bytes, and not those that were built", name, got.size)
		}
		return nil
	}}
}

// hasFilesOf wants the files of a directory of this machine below a prefix, all of
// them and no other.
func hasFilesOf(prefix, dir string) expectation {
	return expectation{files: func(files map[string]file) error {
		wanted, err := readDir(dir)
		if err != nil {
			return err
		}
		count := 0
		for name, f := range files {
			rest, below := strings.CutPrefix(name, prefix+"/")
			if !below {
				continue
			}
			count++
			if want, ok := wanted[rest]; !ok || want != f {
				return fmt.Errorf("%s: not the file that was copied", name)
			}
		}
		if count != len(wanted) {
			return fmt.Errorf("%s: %d files, %d were copied", prefix, count, len(wanted))
		}
		return nil
	}}
}

// prints wants a static program that prints a text.
func prints(name, text string) expectation { return expectation{program: name, output: text} }

// checkImage holds the image of an OCI layout against what it must have.
func checkImage(ctx context.Context, dir string, wanted []expectation) error {
	image, err := openImage(dir)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	programs := map[string]string{}
	for _, want := range wanted {
		if want.program != "" {
			programs[want.program] = filepath.Join(dir, "program")
		}
	}
	files, err := readImage(image, programs)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	for _, want := range wanted {
		if want.program == "" {
			if err := want.files(files); err != nil {
				return fmt.Errorf("wrong image: %w", err)
			}
			continue
		}
		out, err := exec.CommandContext(ctx, programs[want.program]).Output()
		if err != nil || string(out) != want.output {
			return fmt.Errorf("wrong image: %s prints %q, want %q: %w", want.program, out, want.output, err)
		}
	}
	return nil
}

// openImage returns the one image of an OCI layout.
func openImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	for err == nil {
		var manifest *v1.IndexManifest
		if manifest, err = index.IndexManifest(); err != nil {
			break
		}
		if len(manifest.Manifests) == 0 {
			return nil, errors.New("index without manifests")
		}
		first := manifest.Manifests[0]
		if first.MediaType.IsImage() {
			return index.Image(first.Digest)
		}
		index, err = index.ImageIndex(first.Digest)
	}
	return nil, err
}

// readImage hashes the files of the flattened image, and writes some of them where
// programs says.
func readImage(image v1.Image, programs map[string]string) (map[string]file, error) {
	stream := mutate.Extract(image)
	defer stream.Close()
	files := map[string]file{}
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		switch header.Typeflag {
		case tar.TypeLink:
			files[name] = files[strings.TrimPrefix(path.Clean("/"+header.Linkname), "/")]
		case tar.TypeReg:
			if files[name], err = readFile(archive, programs[name]); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
}

// readFile hashes what r has, and copies it to a program at path, if path is not "".
func readFile(r io.Reader, path string) (file, error) {
	hash := sha256.New()
	var w io.Writer = hash
	if path != "" {
		program, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
		if err != nil {
			return file{}, err
		}
		defer program.Close()
		w = io.MultiWriter(hash, program)
	}
	size, err := io.Copy(w, r)
	return file{size: size, digest: [sha256.Size]byte(hash.Sum(nil))}, err
}

func fileOf(content []byte) file {
	return file{size: int64(len(content)), digest: sha256.Sum256(content)}
}

// readDir hashes the regular files of a directory tree.
func readDir(dir string) (map[string]file, error) {
	files := map[string]file{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = readFile(f, "")
		return err
	})
	return files, err
}

// unpackArchive unpacks a tar that a builder wrote; it is as trusted as the builder,
// which ran as root.
func unpackArchive(ctx context.Context, archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", archive, err, bytes.TrimSpace(out))
	}
	return nil
}

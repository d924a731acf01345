package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// example is one directory of examples/ that has a Dockerfile.
type example struct {
	name  string
	dir   string
	bases []string // full names of the images that its stages start from, in order, each once
}

func readExamples(dir string) ([]example, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "Dockerfile"))
	if err != nil {
		return nil, err
	}
	var examples []example
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		e := example{dir: filepath.Dir(path), bases: basesOf(b)}
		e.name = filepath.Base(e.dir)
		examples = append(examples, e)
	}
	return examples, nil
}

// basesOf returns the full names of the images that a Dockerfile of ours starts
// from: those without variables, flags and here-documents that hold a FROM.
func basesOf(dockerfile []byte) []string {
	var stages, bases []string
	for scanner := bufio.NewScanner(bytes.NewReader(dockerfile)); scanner.Scan(); {
		words := strings.Fields(scanner.Text())
		if len(words) < 2 || words[0] != "FROM" {
			continue
		}
		if name := fullName(words[1]); words[1] != "scratch" && !slices.Contains(stages, words[1]) && !slices.Contains(bases, name) {
			bases = append(bases, name)
		}
		if len(words) == 4 && words[2] == "AS" {
			stages = append(stages, words[3])
		}
	}
	return bases
}

// fullName adds what a short image name leaves out: registry, namespace, tag.
func fullName(name string) string {
	host, _, found := strings.Cut(name, "/")
	switch {
	case !found:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		name = "docker.io/" + name
	}
	if !strings.Contains(name[strings.LastIndex(name, "/"):], ":") {
		name += ":latest"
	}
	return name
}

// registryOf returns the host that serves a full name.
func registryOf(name string) string {
	host, _, _ := strings.Cut(name, "/")
	if host == "docker.io" {
		return "registry-1.docker.io"
	}
	return host
}

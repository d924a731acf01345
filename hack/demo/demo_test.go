package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBasesOf(t *testing.T) {
	dockerfile := `# FROM comment
FROM golang:1.26 AS deps
FROM deps AS build
RUN echo FROM nowhere
FROM node:22 AS web
FROM golang:1.26 AS again
FROM scratch
FROM registry.example:5000/team/app
`
	want := []string{"docker.io/library/golang:1.26", "docker.io/library/node:22", "registry.example:5000/team/app:latest"}
	if diff := cmp.Diff(want, basesOf([]byte(dockerfile))); diff != "" {
		t.Errorf("bases (-want +got):\n%s", diff)
	}
}

func TestEveryExampleHasBasesAndAPageToRead(t *testing.T) {
	examples, err := readExamples("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range examples {
		names = append(names, e.name)
		if len(e.bases) == 0 {
			t.Errorf("%s: no base image found", e.name)
		}
		for _, file := range []string{"README.md", ".dockerignore"} {
			if _, err := os.Stat(filepath.Join(e.dir, file)); err != nil {
				t.Error(err)
			}
		}
	}
	if diff := cmp.Diff([]string{"dotnet", "fullstack", "go", "java", "node", "simple"}, names); diff != "" {
		t.Errorf("examples (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	const own, other, held = "docker.io/library/busybox:latest", "mcr.example/sdk:8", "docker.io/library/node:22"
	dir := t.TempDir()
	index := `{"manifests": [{"digest": "sha256:abc", "annotations": {"org.opencontainers.image.ref.name": "` + held + `"}},
		{"digest": "sha256:def", "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	layout, err := readLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &sources{mode: fromOwn, own: []string{own}, layout: layout}
	for name, want := range map[string]string{
		own:  "made here",
		held: "oci-layout://" + dir + "@sha256:abc",
	} {
		o, err := s.find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if o.String() != want {
			t.Errorf("%s comes from %q, want %q", name, o, want)
		}
	}
	if _, err := s.find(t.Context(), other); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("%s: error %v, want one that names it", other, err)
	}
}

func TestFlags(t *testing.T) {
	registry, own, layout := origin{name: "a"}, origin{name: "b", own: true}, origin{name: "c", layout: "oci-layout://dir"}
	for _, c := range []struct {
		origins []origin
		want    []string
	}{
		{[]origin{registry}, []string{"--pull"}},
		{[]origin{registry, own}, nil},
		{[]origin{layout, own}, []string{"--build-context", "c=oci-layout://dir"}},
	} {
		if diff := cmp.Diff(c.want, flags(c.origins)); diff != "" {
			t.Errorf("flags(%v) (-want +got):\n%s", c.origins, diff)
		}
	}
}

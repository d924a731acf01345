package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// baseImage is one image that is built here, by one Dockerfile and target, under
// the names of the image that it stands in for.
type baseImage struct {
	dockerfile string // directory below hack/bases
	target     string
	names      []string // the first one is what other base images start from
	needs      []string // first names of the base images that it starts from
	context    string   // build context; "" is the directory of the Dockerfile
	flags      []string // of stagecraft build
}

const (
	hub        = "docker.io/library/"
	distroless = "gcr.io/distroless/"
)

// tagged returns the names of one repository's tags.
func tagged(repository string, tags ...string) []string {
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = repository + ":" + tag
	}
	return names
}

// baseImages returns all images in the order they can be built in. Of the root,
// dir is the build context.
func baseImages(ctx context.Context, root string) ([]baseImage, error) {
	goroot, version, err := toolchain(ctx)
	if err != nil {
		return nil, err
	}
	debian := tagged(hub+"debian", "12-slim", "bookworm-slim", "12", "bookworm", "stable-slim")
	deps := func(tag string) []string { return []string{hub + "buildpack-deps:" + tag} }
	jdk := append(tagged(hub+"eclipse-temurin", "17-jdk", "17"), tagged(hub+"openjdk", "17", "17-jdk", "17-slim")...)
	return []baseImage{
		{dockerfile: "debian", names: debian, context: root},
		{dockerfile: "busybox", names: tagged(hub+"busybox", "latest", "stable", "1"), needs: debian[:1]},
		{dockerfile: "distroless-static", target: "latest", needs: debian[:1],
			names: tagged(distroless+"static-debian12", "latest")},
		{dockerfile: "distroless-static", target: "nonroot", needs: debian[:1],
			names: append(tagged(distroless+"static-debian12", "nonroot"), tagged(distroless+"static", "nonroot")...)},
		{dockerfile: "buildpack-deps", target: "curl", needs: debian[:1], names: deps("bookworm-curl")},
		{dockerfile: "buildpack-deps", target: "scm", needs: debian[:1], names: deps("bookworm-scm")},
		{dockerfile: "buildpack-deps", target: "full", needs: debian[:1], names: deps("bookworm")},
		{dockerfile: "golang", needs: deps("bookworm-scm"), names: golangNames(version),
			flags: []string{"--build-context", "goroot=" + goroot, "--build-arg", "GOLANG_VERSION=" + version}},
		{dockerfile: "node", target: "slim", needs: debian[:1],
			names: tagged(hub+"node", "22-slim", "22-bookworm-slim", "lts-slim")},
		{dockerfile: "node", target: "full", needs: []string{debian[0], deps("bookworm")[0]},
			names: tagged(hub+"node", "22", "22-bookworm", "lts")},
		{dockerfile: "eclipse-temurin", target: "jre", needs: debian[:1], names: tagged(hub+"eclipse-temurin", "17-jre")},
		{dockerfile: "eclipse-temurin", target: "jdk", needs: debian[:1], names: jdk},
		{dockerfile: "maven", needs: jdk[:1],
			names: tagged(hub+"maven", "3-eclipse-temurin-17", "3.9-eclipse-temurin-17", "3.8-eclipse-temurin-17")},
	}, nil
}

// golangNames are the names of the image of a Go version such as "1.26.3". 1.26
// is always among them: no older toolchain builds this project.
func golangNames(version string) []string {
	tags := []string{"1.26", "1.26-bookworm", "1", "bookworm", "latest"}
	minor := version
	if parts := strings.Split(version, "."); len(parts) > 2 {
		minor = strings.Join(parts[:2], ".")
	}
	for _, tag := range []string{minor, minor + "-bookworm", version} {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tagged(hub+"golang", tags...)
}

// toolchain returns the root and the version of the Go that runs this program.
func toolchain(ctx context.Context) (goroot, version string, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env: %w", err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != 2 {
		return "", "", fmt.Errorf("go env GOROOT GOVERSION: %q is not a path without spaces and a version", out)
	}
	return lines[0], strings.TrimPrefix(lines[1], "go"), nil
}

// needed returns the images of all that have one of the names, or are started
// from by one that has, in the order of all. No names means all images.
func needed(all []baseImage, names []string) ([]baseImage, error) {
	if len(names) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(b baseImage) bool { return slices.Contains(b.names, name) }) {
			return nil, fmt.Errorf("%s: no such base image is made here", name)
		}
		wanted[name] = true
	}
	var chosen []baseImage
	for _, b := range slices.Backward(all) { // a base comes before what starts from it
		if slices.ContainsFunc(b.names, func(name string) bool { return wanted[name] }) {
			chosen = append(chosen, b)
			for _, name := range b.needs {
				wanted[name] = true
			}
		}
	}
	slices.Reverse(chosen)
	return chosen, nil
}

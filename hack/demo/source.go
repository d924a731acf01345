package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Where base images come from: the values of -bases that are no directory.
const (
	fromRegistry = "registry"
	fromOwn      = "own"
)

// sources decides where each base image comes from.
type sources struct {
	mode   string            // -bases: "", fromRegistry, fromOwn, or the directory of an OCI layout
	layout map[string]string // full name -> oci-layout:// address, of the images in that directory
	own    []string          // names that hack/bases makes
	why    map[string]error  // registry host -> why it is out of reach, nil if it is not
}

func openSources(ctx context.Context, mode string) (*sources, error) {
	s := &sources{mode: mode, why: map[string]error{}}
	switch mode {
	case "", fromOwn, fromRegistry:
	default:
		var err error
		if s.layout, err = readLayout(mode); err != nil {
			return nil, err
		}
	}
	names, err := exec.CommandContext(ctx, "go", "run", "./hack/bases", "-list").Output()
	if err != nil {
		return nil, fmt.Errorf("list base images: %w", err)
	}
	s.own = strings.Fields(string(names))
	return s, nil
}

// origin is where one base image comes from: a registry if nothing else is said.
type origin struct {
	name   string // full name of the base image
	layout string // address in an OCI layout, "" if it comes from none
	own    bool   // hack/bases makes it
}

func (o origin) String() string {
	switch {
	case o.layout != "":
		return o.layout
	case o.own:
		return "made here"
	}
	return "registry " + registryOf(o.name)
}

// flags are those of stagecraft build that make it take its base images from
// where origins say.
func flags(origins []origin) []string {
	var flags []string
	registries := true
	for _, o := range origins {
		registries = registries && o.layout == "" && !o.own
		if o.layout != "" {
			flags = append(flags, "--build-context", o.name+"="+o.layout)
		}
	}
	if registries { // not a stand-in that was made when they were out of reach
		flags = append(flags, "--pull")
	}
	return flags
}

// find returns where a base image comes from, or why it cannot be had.
func (s *sources) find(ctx context.Context, name string) (origin, error) {
	if address, ok := s.layout[name]; ok {
		return origin{name: name, layout: address}, nil
	}
	host := registryOf(name)
	if s.mode != fromOwn {
		err, asked := s.why[host]
		if !asked {
			err = reach(ctx, host)
			s.why[host] = err
		}
		if err == nil || s.mode == fromRegistry {
			return origin{name: name}, err
		}
	}
	if slices.Contains(s.own, name) {
		return origin{name: name, own: true}, nil
	}
	if err := s.why[host]; err != nil {
		return origin{}, fmt.Errorf("%w, and no stand-in is made here", err)
	}
	return origin{}, fmt.Errorf("no stand-in for %s is made here", name)
}

// reach reports whether a registry answers. What it answers is of no matter: an
// anonymous client is first told to fetch a token.
func reach(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("registry %s cannot be reached", host)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("registry %s answers %s", host, answer.Status)
	}
	return nil
}

// readLayout returns the addresses of the images of an OCI layout that have a
// full name.
func readLayout(dir string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("-bases %s: no image layout: %w", dir, err)
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&index); err != nil {
		return nil, fmt.Errorf("-bases %s: index.json: %w", dir, err)
	}
	images := map[string]string{}
	for _, m := range index.Manifests {
		for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
			if name := m.Annotations[key]; strings.Contains(name, "/") {
				images[name] = "oci-layout://" + dir + "@" + m.Digest
			}
		}
	}
	return images, nil
}

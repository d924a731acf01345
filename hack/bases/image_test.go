package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The order of the table is the order of building: whatever an image starts from
// stands before it, and no two images claim one name.
func TestBaseImagesAreInBuildOrder(t *testing.T) {
	all, err := baseImages(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range all {
		for _, name := range b.needs {
			if !seen[name] {
				t.Errorf("%s starts from %s, which is not built before it", b.names[0], name)
			}
		}
		for _, name := range b.names {
			if seen[name] {
				t.Errorf("%s is the name of two images", name)
			}
			seen[name] = true
		}
	}
}

func TestNeededAddsWhatAnImageStartsFrom(t *testing.T) {
	all := []baseImage{
		{names: []string{"root"}},
		{names: []string{"unrelated"}, needs: []string{"root"}},
		{names: []string{"jdk", "jdk:17"}, needs: []string{"root"}},
		{names: []string{"maven"}, needs: []string{"jdk"}},
	}
	for _, c := range []struct{ ask, want []string }{
		{[]string{"maven"}, []string{"root", "jdk", "maven"}},
		{[]string{"jdk:17"}, []string{"root", "jdk"}},
		{[]string{"root"}, []string{"root"}},
		{nil, []string{"root", "unrelated", "jdk", "maven"}},
	} {
		got, err := needed(all, c.ask)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, b := range got {
			names = append(names, b.names[0])
		}
		if diff := cmp.Diff(c.want, names); diff != "" {
			t.Errorf("needed(%q) (-want +got):\n%s", c.ask, diff)
		}
	}
	if _, err := needed(all, []string{"perl"}); err == nil {
		t.Error("needed(perl): no error for an image that is not made here")
	}
}

func TestGolangNames(t *testing.T) {
	for version, want := range map[string]string{
		"1.26.8":     hub + "golang:1.26.8",
		"1.27.1":     hub + "golang:1.27",
		"1.27rc1":    hub + "golang:1.27rc1",
		"1.26-devel": hub + "golang:1.26-devel",
	} {
		names := golangNames(version)
		if !slices.Contains(names, want) || !slices.Contains(names, hub+"golang:1.26") {
			t.Errorf("golangNames(%s) = %q, want %s and 1.26 among them", version, names, want)
		}
		unique := slices.Compact(slices.Sorted(slices.Values(names)))
		if len(unique) != len(names) {
			t.Errorf("golangNames(%s) = %q has a name twice", version, names)
		}
	}
}

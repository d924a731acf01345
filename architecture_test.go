// Package stagecraft_test keeps docs/architecture.md true: the layers of its
// package table are checked against the imports of the code.
package stagecraft_test

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "stagecraft"

// layersOf reads the package table: import path -> layer.
func layersOf(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row := regexp.MustCompile("^\\| (\\d+) \\| `([^`]+)` \\|")
	layers := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		m := row.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		path := module + "/internal/" + m[2]
		if strings.HasPrefix(m[2], "cmd/") {
			path = module + "/" + m[2]
		}
		layers[path], _ = strconv.Atoi(m[1])
	}
	if len(layers) < 10 {
		t.Fatalf("docs/architecture.md: the package table has %d rows, want at least 10", len(layers))
	}
	return layers
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestPackagesImportOnlyLowerLayers(t *testing.T) {
	layers := layersOf(t)
	seen := map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}}: {{join .Imports " "}}`, "./internal/...", "./cmd/...") {
		pkg, imports, _ := strings.Cut(line, ":")
		seen[pkg] = true
		if strings.HasPrefix(pkg, module+"/internal/testkit") {
			continue
		}
		layer, ok := layers[pkg]
		if !ok {
			t.Errorf("%s is not in the package table of docs/architecture.md", pkg)
			continue
		}
		for imp := range strings.FieldsSeq(imports) {
			if !strings.HasPrefix(imp, module+"/") {
				continue
			}
			if strings.HasPrefix(imp, module+"/internal/testkit") {
				t.Errorf("%s imports %s, which only tests may", pkg, imp)
				continue
			}
			if below, ok := layers[imp]; ok && below >= layer {
				t.Errorf("%s (layer %d) imports %s (layer %d)", pkg, layer, imp, below)
			}
		}
	}
	for pkg := range layers {
		if !seen[pkg] {
			t.Errorf("docs/architecture.md lists %s, which does not exist", pkg)
		}
	}
}

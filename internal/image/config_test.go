package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	text := "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\", \"mirror.example.com/hub\"]\n\n" +
		"[registry.\"lan:5000\"]\ninsecure = true\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &Config{Registry: map[string]RegistryConfig{
		"docker.io": {Mirrors: []string{"http://127.0.0.1:5000", "mirror.example.com/hub"}},
		"lan:5000":  {Insecure: true},
	}}
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	t.Setenv("STAGECRAFT_CONFIG", path)
	if got, err = FindConfig(); err != nil || len(got.Registry) != 2 {
		t.Errorf("by the variable: %v %v", got, err)
	}
	t.Setenv("STAGECRAFT_CONFIG", path+".missing")
	if _, err := FindConfig(); err == nil {
		t.Error("a file that was asked for and is missing is no error")
	}
}

func TestFindConfigPlaces(t *testing.T) {
	t.Setenv("STAGECRAFT_CONFIG", "")
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if err := os.MkdirAll(filepath.Join(home, "stagecraft"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "stagecraft", "config.toml"), []byte("[registry.\"a:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := FindConfig()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Registry["a:1"]; !ok {
		t.Errorf("got %v", c)
	}
}

func TestConfigErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"[registry.\"docker.io\"]\n\nmirors = []\n":                  ":3: unknown key",
		"# mirors\n[registry.\"docker.io\"]\nmirors = []\n":          ":3: unknown key",
		"[registry.\"docker.io\"]\nmirrors = [\n":                    ":2: ",
		"\n[registry.\"docker.io\"]\nmirrors = \"x\"\n":              ": ",
		"[registry.\"docker.io\"]\nmirrors = [\"ftp://x\"]\n":        ":2: mirror",
		"[registry.\"docker.io/library\"]\ninsecure = true\n":        ":1: registry",
		"[registry.\"a\"]\nmirrors = [\"https://user:secret@host\"]": ":2: mirror",
	} {
		_, err := parseConfigFile([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add([]byte("[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\ninsecure = true\n"))
	f.Add([]byte("[registry.a]\nb = 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfigFile(b)
		if err != nil {
			return
		}
		for _, r := range c.Registry {
			for _, m := range r.Mirrors {
				if p, err := parseMirror(m); err != nil || p.host == "" {
					t.Errorf("mirror %q was accepted: %v %v", m, p, err)
				}
			}
		}
	})
}

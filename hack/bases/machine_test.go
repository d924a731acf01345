package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadSources(t *testing.T) {
	const trixie = "ID=debian\nVERSION_CODENAME=trixie\n"
	for _, c := range []struct {
		name, file, sources, release string
		wantName, want               string // want == "": an error
	}{
		{"deb822 of another release", "apt/sources.list.d/debian.sources",
			"URIs: http://mirror.example/trixies\nSuites: trixie trixie-updates\n", trixie,
			"debian.sources", "URIs: http://mirror.example/trixies\nSuites: bookworm bookworm-updates\n"},
		{"one line", "apt/sources.list", "deb http://mirror.example/debian bookworm main\n", "ID=debian\nVERSION_CODENAME=bookworm\n",
			"debian.list", "deb http://mirror.example/debian bookworm main\n"},
		{"other publisher", "apt/sources.list.d/vendor.list", "deb http://vendor.example stable main\n", trixie, "", ""},
		{"empty", "apt/sources.list", " \n", trixie, "", ""},
		{"other distribution", "apt/sources.list", "deb http://mirror.example/ noble main\n", "ID=ubuntu\nID_LIKE=debian\n", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{c.file: c.sources, "os-release": c.release})
			m := &machine{}
			err := m.readSources(filepath.Join(dir, "apt"), filepath.Join(dir, "os-release"))
			if c.want == "" {
				if err == nil {
					t.Fatalf("sources are %q, want an error", m.sources)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.sourcesName != c.wantName || string(m.sources) != c.want {
				t.Errorf("sources %s: %q, want %s: %q", m.sourcesName, m.sources, c.wantName, c.want)
			}
		})
	}
}

func TestAcquireSettingsAreThoseThatReachAMirror(t *testing.T) {
	dump := `APT::Architecture "amd64";
Acquire "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Acquire::https "";
Acquire::Languages:: "none";
Acquire::Changelogs::AlwaysOnline "true";
`
	want := `Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
`
	if diff := cmp.Diff(want, string(acquireSettings([]byte(dump)))); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestCertificatesBeyondTheDistributions(t *testing.T) {
	block := func(content string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)})
	}
	dir := writeFiles(t, map[string]string{"mozilla/a.crt": string(block("known"))})
	known, err := distributed(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !known[sha256.Sum256([]byte("known"))] {
		t.Fatal("the distribution's certificate is not read")
	}
	bundle := bytes.Join([][]byte{block("known"), []byte("# a comment\n"), block("own")}, nil)
	own := certificatesBeyond(known, bundle)
	if len(own) != 1 || !bytes.Equal(own[0], block("own")) {
		t.Errorf("own certificates: %q, want one", own)
	}
	if none, err := distributed(filepath.Join(dir, "missing")); err != nil || len(none) != 0 {
		t.Errorf("a distribution without certificates: %v, %v", none, err)
	}
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// suite is the Debian release of the base images.
const suite = "bookworm"

// machine is what a package manager on this machine needs to reach its mirrors.
// It is read when the images are made and written into them, and nowhere else.
type machine struct {
	sources      []byte // apt's sources, deb822 or one-line form
	sourcesName  string // debian.sources or debian.list
	aptSettings  []byte // apt.conf lines
	certificates []byte // PEM bundle that TLS clients trust; empty if there is none
	ownCerts     [][]byte
}

func readMachine(ctx context.Context) (*machine, error) {
	m := &machine{}
	if err := m.readSources("/etc/apt", "/etc/os-release"); err != nil {
		return nil, err
	}
	dump, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-config dump: %w", err)
	}
	m.aptSettings = acquireSettings(dump)
	bundle := cmp.Or(os.Getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt")
	if m.certificates, err = os.ReadFile(bundle); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	known, err := distributed("/usr/share/ca-certificates")
	if err != nil {
		return nil, err
	}
	m.ownCerts = certificatesBeyond(known, m.certificates)
	return m, nil
}

// readSources reads the machine's sources of Debian packages; those of other
// publishers stay out. A machine of another Debian release has the same mirrors.
func (m *machine) readSources(apt, osRelease string) error {
	release, err := os.ReadFile(osRelease)
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`(?m)^ID="?debian"?$`).Match(release) {
		return errors.New("base images: only a Debian machine can make them: " + osRelease + " names another distribution")
	}
	for _, name := range []string{"sources.list.d/debian.sources", "sources.list"} {
		b, err := os.ReadFile(filepath.Join(apt, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		m.sourcesName = "debian" + strings.Replace(filepath.Ext(name), "list.d/", "", 1)
		m.sources = b
		if code := regexp.MustCompile(`(?m)^VERSION_CODENAME="?(\w+)`).FindSubmatch(release); code != nil {
			m.sources = regexp.MustCompile(`\b`+string(code[1])+`\b`).ReplaceAll(b, []byte(suite))
		}
		return nil
	}
	return fmt.Errorf("base images: %s has no sources of Debian packages", apt)
}

// acquireSettings picks the lines of apt's configuration that say how to reach a
// mirror: proxies, retries, whether dates are checked.
func acquireSettings(dump []byte) []byte {
	var picked bytes.Buffer
	reach := regexp.MustCompile(`^Acquire::(Check-|Force|Retries|https?::|ftp::).*"[^"]+";$`)
	for line := range bytes.Lines(dump) {
		if reach.Match(bytes.TrimSpace(line)) {
			picked.Write(line)
		}
	}
	return picked.Bytes()
}

// distributed returns the digests of the certificates that a distribution ships
// in dir; none where dir is missing.
func distributed(dir string) (map[[32]byte]bool, error) {
	known := map[[32]byte]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			known[sha256.Sum256(block.Bytes)] = true
		}
		return nil
	})
	return known, err
}

// certificatesBeyond returns the certificates of a PEM bundle that are not known,
// each in PEM.
func certificatesBeyond(known map[[32]byte]bool, bundle []byte) [][]byte {
	var own [][]byte
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && !known[sha256.Sum256(block.Bytes)] {
			own = append(own, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
	return own
}

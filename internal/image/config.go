package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxConfigFile bounds the configuration file, in bytes.
const maxConfigFile = 1 << 20

// Config says how registries are reached. The zero value reaches them under
// their own names, by HTTPS, and loopback hosts by HTTP too.
//
//	[registry."docker.io"]
//	mirrors = ["http://127.0.0.1:5000", "https://mirror.example.com/hub"]
//
//	[registry."registry.lan:5000"]
//	insecure = true
type Config struct {
	// Registry is by host, as in an image's full name: "docker.io", "ghcr.io",
	// "registry.lan:5000".
	Registry map[string]RegistryConfig `toml:"registry"`
}

// RegistryConfig says how one registry is reached.
type RegistryConfig struct {
	// Mirrors are asked before the registry itself, in order: URLs with scheme
	// http or https, host, and optionally a path that is put before the
	// repository; or just a host.
	Mirrors []string `toml:"mirrors"`
	// Insecure allows plain HTTP where the host does not speak HTTPS.
	Insecure bool `toml:"insecure"`
}

// FindConfig loads the configuration file: $STAGECRAFT_CONFIG, else the user's
// own (~/.config/stagecraft/config.toml), else the machine's
// (/etc/stagecraft/config.toml). Only a file that was asked for by the variable
// has to exist.
func FindConfig() (*Config, error) {
	if path := os.Getenv("STAGECRAFT_CONFIG"); path != "" {
		return LoadConfig(path)
	}
	var candidates []string
	if dir, err := os.UserConfigDir(); err == nil {
		candidates = append(candidates, filepath.Join(dir, "stagecraft", "config.toml"))
	}
	for _, path := range append(candidates, "/etc/stagecraft/config.toml") {
		c, err := LoadConfig(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return &Config{}, nil
}

// LoadConfig reads a configuration file. Unknown keys are errors, with their
// line.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > maxConfigFile {
		return nil, fmt.Errorf("configuration %s: %d bytes are more than the limit of %d", path, info.Size(), maxConfigFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := parseConfigFile(b)
	if err != nil {
		return nil, fmt.Errorf("configuration %s%w", path, err)
	}
	return c, nil
}

// parseConfigFile reads the text of a configuration file. Its errors begin with
// what follows the file's name: ":3: ..." or ": ...".
func parseConfigFile(b []byte) (*Config, error) {
	var c Config
	meta, err := toml.Decode(string(b), &c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf(":%d: %s", pe.Position.Line, pe.Message)
		}
		return nil, fmt.Errorf(": %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return nil, fmt.Errorf(":%d: unknown key %q; known are mirrors and insecure under [registry.\"HOST\"]",
			lineOfKey(b, key), key.String())
	}
	for host, r := range c.Registry {
		if host == "" || strings.ContainsAny(host, "/ ") {
			return nil, fmt.Errorf(":%d: registry %q: want a host, as in \"docker.io\"",
				lineOfKey(b, toml.Key{host}), host)
		}
		for _, m := range r.Mirrors {
			if _, err := parseMirror(m); err != nil {
				return nil, fmt.Errorf(":%d: %w", lineOfKey(b, toml.Key{m}), err)
			}
		}
	}
	return &c, nil
}

// lineOfKey finds the line, from 1, on which the last part of a key stands; the
// decoder does not tell. It is the first line with that word, which may be
// another one's; 1 where there is none.
func lineOfKey(b []byte, key toml.Key) int {
	for n, line := range strings.Split(string(b), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if strings.Contains(text, key[len(key)-1]) {
			return n + 1
		}
	}
	return 1
}

// mirror is a parsed entry of [RegistryConfig.Mirrors].
type mirror struct {
	host   string
	prefix string // of the repository, without slashes at its ends
	http   bool   // named with http://
}

func parseMirror(s string) (mirror, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		u.Scheme != "http" && u.Scheme != "https" {
		return mirror{}, fmt.Errorf("mirror %q: want http://HOST or https://HOST, with an optional path", s)
	}
	return mirror{host: u.Host, prefix: strings.Trim(u.Path, "/"), http: u.Scheme == "http"}, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// debianFiles holds the settings of the Debian root.
const debianFiles = "hack/bases/debian"

// makeRoot unpacks the packages of a minimal Debian as dir/rootfs.tar, unless the
// one that is there was made from the same settings. Packages that were updated
// since are no reason to make it again; deleting dir is.
func makeRoot(ctx context.Context, dir string) error {
	m, err := readMachine(ctx)
	if err != nil {
		return err
	}
	key, err := m.key()
	if err != nil {
		return err
	}
	tar, stamp := filepath.Join(dir, "rootfs.tar"), filepath.Join(dir, "rootfs.key")
	if old, err := os.ReadFile(stamp); err == nil && string(old) == key {
		if _, err := os.Stat(tar); err == nil {
			return nil
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := m.write(work); err != nil {
		return err
	}
	if err := bootstrap(ctx, work, m); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "rootfs.tar"), tar); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(key), 0o644)
}

// key is a digest of all that the root is made from but the packages.
func (m *machine) key() (string, error) {
	h := sha256.New()
	for _, name := range []string{"apt.conf", "dpkg.cfg", "policy-rc.d"} {
		b, err := os.ReadFile(filepath.Join(debianFiles, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
	}
	for _, b := range [][]byte{m.sources, m.aptSettings, m.certificates, bytes.Join(m.ownCerts, nil)} {
		fmt.Fprintf(h, "%d\n%s", len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write lays out the files of the machine in dir: what goes into the root below
// dir/root, what mmdebstrap reads beside it.
func (m *machine) write(dir string) error {
	policy, err := os.ReadFile(filepath.Join(debianFiles, "policy-rc.d"))
	if err != nil {
		return err
	}
	apt, err := os.ReadFile(filepath.Join(debianFiles, "apt.conf"))
	if err != nil {
		return err
	}
	type file struct {
		path    string
		content []byte
		mode    os.FileMode
	}
	files := []file{
		{m.sourcesName, m.sources, 0o644},
		{"machine.conf", m.aptSettings, 0o644},
		{"root/usr/sbin/policy-rc.d", policy, 0o755},
		{"root/etc/apt/apt.conf.d/image", apt, 0o644}, // not for mmdebstrap: it keeps what it downloads until the end
	}
	if len(m.certificates) > 0 {
		files = append(files, file{"root/etc/ssl/certs/ca-certificates.crt", m.certificates, 0o644})
	}
	// Where update-ca-certificates takes them from when the package is installed.
	for i, cert := range m.ownCerts {
		files = append(files, file{fmt.Sprintf("root/usr/local/share/ca-certificates/machine-%d.crt", i+1), cert, 0o644})
	}
	for _, f := range files {
		path := filepath.Join(dir, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// bootstrap writes dir/rootfs.tar. Device nodes stay out: whoever runs the image
// gives it its own.
func bootstrap(ctx context.Context, dir string, m *machine) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--skip=output/dev",
		"--aptopt="+filepath.Join(dir, "machine.conf"),
		`--aptopt=Dir::Cache::pkgcache ""`, `--aptopt=Dir::Cache::srcpkgcache ""`, // 70 MB that apt makes anew
		"--dpkgopt="+filepath.Join(debianFiles, "dpkg.cfg"),
		"--customize-hook=tar-in "+filepath.Join(dir, "root.tar")+" /",
		// Copied from this machine while packages were installed.
		`--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"`,
		suite, filepath.Join(dir, "rootfs.tar"), filepath.Join(dir, m.sourcesName))
	// Times of files: of the newest package, not of this run.
	pack := exec.CommandContext(ctx, "tar", "--create", "--file="+filepath.Join(dir, "root.tar"),
		"--directory="+filepath.Join(dir, "root"), "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", ".")
	for _, c := range []*exec.Cmd{pack, cmd} {
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(c.Path), err, bytes.TrimSpace(out))
		}
	}
	return nil
}

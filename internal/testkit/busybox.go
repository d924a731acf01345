package testkit

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BusyboxImage is an image with a shell and the usual small programs, made of
// the distribution's static busybox (package busybox-static): /bin/sh and all
// applets in /bin, users root and nobody, /tmp, and PATH. It is small enough to
// be made in every test.
func BusyboxImage(t testing.TB) v1.Image {
	t.Helper()
	return Image(t, ImageOptions{
		Architecture: runtime.GOARCH,
		Tars:         [][]byte{BusyboxTar(t)},
		Config: v1.Config{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"sh"},
		},
	})
}

// BusyboxTar is the layer of [BusyboxImage].
func BusyboxTar(t testing.TB) []byte {
	t.Helper()
	path, binary := busybox(t)
	out, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatalf("list applets of %s: %v", path, err)
	}
	entries := []Entry{
		{Name: "bin/", Mode: 0o755},
		{Name: "bin/busybox", Mode: 0o755, Data: binary},
		{Name: "dev/", Mode: 0o755},
		{Name: "etc/", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Name: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{Name: "proc/", Mode: 0o755},
		{Name: "root/", Mode: 0o700},
		{Name: "sys/", Mode: 0o755},
		{Name: "tmp/", Mode: 0o1777},
		{Name: "usr/", Mode: 0o755},
		{Name: "usr/bin/", Mode: 0o755},
		{Name: "var/", Mode: 0o755},
	}
	for applet := range strings.FieldsSeq(string(out)) {
		if applet != "busybox" {
			entries = append(entries, Entry{Name: "bin/" + applet, HardLink: "bin/busybox"})
		}
	}
	return Tar(entries...)
}

// BusyboxLayout puts [BusyboxImage] into an OCI layout, tagged "latest", and
// returns the layout's directory.
func BusyboxLayout(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	AddToLayout(t, dir, "latest", BusyboxImage(t))
	return dir
}

func busybox(t testing.TB) (path string, binary []byte) {
	t.Helper()
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if b, err := os.ReadFile(path); err == nil {
			return path, b
		}
	}
	t.Fatal("busybox: not found; install the package busybox-static")
	return "", nil
}

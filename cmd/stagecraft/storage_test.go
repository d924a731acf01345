package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"stagecraft/internal/testkit"
)

// privateMounts gives the test a mount namespace, which goes away with it. It
// is that of the test's thread and of the programs that the test starts, not of
// other goroutines.
func privateMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS),
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	if err != nil {
		t.Fatalf("mount namespace: %v", err)
	}
}

// mount mounts in the namespace of [privateMounts], until the test ends.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(target, 0o755), unix.Mount(source, target, kind, flags, data)); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// readOnly makes a directory read-only for root, too.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	mount(t, dir, dir, "", unix.MS_BIND, "")
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("remount %s: %v", dir, err)
	}
}

const storing = `FROM busybox
COPY data /data
RUN cp /data /copy
RUN cmp /data /copy && echo equal > /result
CMD ["cat", "/result"]
`

// newStoring is a build that writes some megabytes.
func newStoring(t *testing.T) (p *program, build []string) {
	t.Helper()
	data := make([]byte, 1<<20)
	rand.Read(data)
	p = newProgram(t, map[string]string{"Dockerfile": storing, "data": string(data)})
	return p, []string{"build", "--build-context", "busybox=oci-layout://" + testkit.BusyboxLayout(t)}
}

func TestOutputNotWritable(t *testing.T) {
	p, build := newStoring(t)
	p.succeed(append(build, "-t", "app", ".")...)
	privateMounts(t)
	out := filepath.Join(p.dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	readOnly(t, out)
	small := filepath.Join(p.dir, "small")
	mount(t, "tmpfs", small, "tmpfs", 0, "size=256k")
	for _, dir := range []string{out, small} {
		reason := map[string]string{out: "read-only file system", small: "no space left on device"}[dir]
		for _, o := range []string{
			"type=oci,dest=" + dir + "/app.tar", "type=oci,tar=false,dest=" + dir + "/app",
			"type=tar,dest=" + dir + "/files.tar", "type=local,dest=" + dir + "/files",
		} {
			got := p.run(append(build, "-o", o, ".")...)
			got.wantError(t, exitStorage, "output "+strings.Replace(o, ",tar=false", "", 1), reason)
			if strings.Contains(got.stderr, "STAGECRAFT_ROOT") {
				t.Errorf("an output that cannot be written is taken for the store:\n%s", got.stderr)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(p.dir, "*", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	p.run(append(build, "-o", "type=oci,dest=/dev/full", ".")...).
		wantError(t, exitStorage, "output type=oci,dest=/dev/full", "no space left on device")
	for _, flag := range []string{"--iidfile", "--metadata-file"} {
		got := p.run(append(build, flag, out+"/file", ".")...)
		if got.code != exitStorage || !strings.Contains(got.stderr, "read-only file system") {
			t.Errorf("%s: exit code %d\n%s", flag, got.code, got.stderr)
		}
	}
}

func TestStoreReadOnly(t *testing.T) {
	p, build := newStoring(t)
	privateMounts(t)
	if err := os.Mkdir(p.store, 0o700); err != nil {
		t.Fatal(err)
	}
	p.succeed(append(build, "-t", "app", ".")...)
	readOnly(t, p.store)
	for _, args := range [][]string{append(build, "-t", "app", "."), {"images"}, {"run", "app"}} {
		got := p.run(args...)
		if got.code != exitStorage || !strings.Contains(got.stderr, p.store) || !strings.Contains(got.stderr, "read-only file system") ||
			!strings.Contains(got.stderr, "STAGECRAFT_ROOT") {
			t.Errorf("%s: exit code %d\n%s", args[0], got.code, got.stderr)
		}
	}
}

func TestStoreOfAnotherUser(t *testing.T) {
	p := newProgram(t, nil)
	if err := os.Mkdir(p.store, 0o700); err != nil {
		t.Fatal(err)
	}
	p.succeed("images")
	// Everybody may start the program; nobody may enter the store.
	binary, err := exec.LookPath("stagecraft")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(binary), filepath.Dir(filepath.Dir(binary))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := p.command("build", "-t", "app", "/")
	c.Dir = "/"
	c.Env = append(c.Env, "HOME=/nonexistent")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	got := finish(t, c)
	if got.code != exitStorage || !strings.Contains(got.stderr, p.store) || !strings.Contains(got.stderr, "permission denied") ||
		!strings.Contains(got.stderr, "STAGECRAFT_ROOT") {
		t.Errorf("exit code %d\n%s", got.code, got.stderr)
	}
}

// Wherever the store runs out of space, the build says so, lists no image,
// leaves nothing half made, and goes on from there when there is room again.
func TestStoreFull(t *testing.T) {
	for _, kib := range []int{16, 1500, 2600, 3600, 4600} {
		t.Run(fmt.Sprintf("%dKiB", kib), func(t *testing.T) {
			t.Parallel()
			p, build := newStoring(t)
			fillStore(t, p, build, fmt.Sprintf("size=%dk", kib))
		})
	}
	// What a build writes last is small and makes it an image: records, facts
	// and names. A build without RUN needs the most inodes at its end.
	last := map[string]string{"Dockerfile": "FROM busybox\nCOPY result /\nCMD [\"cat\", \"/result\"]\n", "result": "equal\n"}
	for _, dockerfile := range []map[string]string{nil, last} {
		p, build := newStoring(t)
		p.write(dockerfile)
		used := usedInodes(t, p, build)
		for _, less := range []int{1, 3, 8} {
			t.Run(fmt.Sprintf("%d of %d inodes", used-less, used), func(t *testing.T) {
				t.Parallel()
				p, build := newStoring(t)
				p.write(dockerfile)
				fillStore(t, p, build, fmt.Sprintf("nr_inodes=%d,size=64m", used-less))
			})
		}
	}
}

// fillStore builds into a store that is too small, and again when it is larger.
func fillStore(t *testing.T, p *program, build []string, size string) {
	t.Helper()
	privateMounts(t)
	small := filepath.Join(filepath.Dir(p.dir), "small")
	mount(t, "tmpfs", small, "tmpfs", 0, size)
	p.store = filepath.Join(small, "store")
	build = append(build, "-t", "app", ".")
	got := p.run(build...)
	if got.code != exitStorage || !strings.Contains(got.stderr, "no space left on device\n  make room") {
		t.Errorf("exit code %d\n%s", got.code, got.stderr)
	}
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=64m,nr_inodes=100000"); err != nil {
		t.Fatal(err)
	}
	if list := p.succeed("images").stdout; strings.Contains(list, "app") {
		t.Errorf("after the build that did not succeed there is an image:\n%s", list)
	}
	if got := p.run("run", "app"); got.code != exitImage {
		t.Errorf("run of the image that is not there: exit code %d\n%s", got.code, got.stderr)
	}
	p.succeed(build...)
	if got := p.succeed("run", "app").stdout; got != "equal\n" {
		t.Errorf("the image prints %q", got)
	}
	for _, sub := range []string{"tmp", "locks"} {
		left, err := filepath.Glob(filepath.Join(p.store, sub, "[^.]*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left in the store: %v, %v", left, err)
		}
	}
}

// usedInodes is how many inodes a store has after a build into it.
func usedInodes(t *testing.T, p *program, build []string) int {
	t.Helper()
	privateMounts(t)
	dir := filepath.Join(filepath.Dir(p.dir), "large")
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64m,nr_inodes=100000")
	p.store = filepath.Join(dir, "store")
	p.succeed(append(build, "-t", "app", ".")...)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int(fs.Files - fs.Ffree)
}

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// withConf adds a file of the host, mounted on /etc/resolv.conf.
func (b *box) withConf() *box {
	conf := filepath.Join(b.dir, "conf")
	if err := os.WriteFile(conf, []byte("from the host\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
		Destination: "/etc/resolv.conf", Type: "bind", Source: conf, Options: []string{"bind", "ro"}})
	return b
}

func (b *box) link(target, name string) *box {
	if err := os.Symlink(target, filepath.Join(b.layer(), name)); err != nil {
		b.t.Fatal(err)
	}
	return b
}

// An image cannot move the mounts that isolate it elsewhere.
func TestSystemDirectoriesThatAreLinks(t *testing.T) {
	for _, name := range []string{"proc", "dev", "sys"} {
		_, _, err := newBox(t).link("bin", name).try("true")
		if want := "mount /" + name + ": it is a symbolic link in the image"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("/%s is a link: %v, want %q", name, err, want)
		}
	}
}

// Wherever links of the image point: nothing of the host is made or changed,
// the process sees the file where the path leads inside the root.
func TestMountTargetsBehindLinks(t *testing.T) {
	outside := t.TempDir()
	for _, target := range []string{outside, "../../../../../../../.." + outside, "/nowhere/at/all", "../run"} {
		b := newBox(t).withConf().link(target, "etc")
		if got := b.run("cat /etc/resolv.conf"); got != "from the host\n" {
			t.Errorf("/etc -> %s: read %q", target, got)
		}
		if w := b.written(); len(w) != 0 {
			t.Errorf("/etc -> %s: left %v", target, w)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	// Links to themselves, and to places in /proc, end in an error.
	for _, target := range []string{"etc", "/proc/self/fd/3", "/proc/self/root", "/proc/1/cwd", "/proc/sys/kernel"} {
		_, _, err := newBox(t).withConf().link(target, "etc").try("true")
		if err == nil || !strings.Contains(err.Error(), "mount /etc/resolv.conf: ") {
			t.Errorf("/etc -> %s: %v, want an error", target, err)
		}
	}
}

func TestWorkingDirectoryBehindMagicLinks(t *testing.T) {
	for n := range 10 {
		b := newBox(t).link(fmt.Sprintf("/proc/self/fd/%d", n), "way")
		b.spec.Process.Cwd = "/way"
		if out, _, err := b.try("ls"); err == nil {
			t.Errorf("entered descriptor %d:\n%s", n, out)
		}
	}
}

// Files of users that never end, or are the builder's, are not read.
func TestHostileAccountFiles(t *testing.T) {
	for _, target := range []string{"/dev/zero", "/proc/self/fd/3"} {
		b := newBox(t)
		if err := os.Mkdir(b.layer()+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		b.link(target, "etc/passwd")
		if _, _, err := b.try("true"); err == nil || !strings.Contains(err.Error(), "/etc/passwd") {
			t.Errorf("/etc/passwd -> %s: %v", target, err)
		}
	}
	b := newBox(t)
	if err := errors.Join(os.Mkdir(b.layer()+"/etc", 0o755), syscall.Mkfifo(b.layer()+"/etc/group", 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.try("true"); err == nil || !strings.Contains(err.Error(), "/etc/group: not a regular file") {
		t.Errorf("/etc/group is a fifo: %v", err)
	}
}

// The mount table tells the process nothing of where the builder keeps things.
func TestMountTableNamesNoPathOfTheHost(t *testing.T) {
	b := newBox(t).withConf()
	out := b.run("cat /proc/self/mountinfo /proc/mounts /proc/1/cgroup; cat /proc/cmdline > /dev/null")
	for _, path := range []string{b.dir, filepath.Base(b.dir), "upperdir=/", "lowerdir=/"} {
		for line := range strings.Lines(out) {
			// A bind mount names its root on its own file system; that is the kernel's.
			if strings.Contains(line, path) && !strings.Contains(line, " /etc/resolv.conf ") {
				t.Errorf("the process sees %q: %s", path, line)
			}
		}
	}
	if !strings.Contains(out, " / / ") {
		t.Errorf("no root in the mount table:\n%s", out)
	}
}

// What the process may execute of the builder it may not write to.
func TestBuilderIsReachableReadonlyOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := openReadonly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR | unix.O_TRUNC} {
		if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags, 0); err != unix.EROFS {
			t.Errorf("open for writing: %d, %v, want EROFS", fd, err)
		}
	}
}

// openTerminal makes a terminal; the process under test gets its far end.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

// A builder with a controlling terminal: its steps must not find it, and a
// command that is given it must not type into it.
func TestTerminalOfTheBuilder(t *testing.T) {
	if mode := os.Getenv("SANDBOX_TEST_TERMINAL"); mode != "" {
		b := newBox(t)
		b.install("probe-terminal")
		b.spec.Process.Args = []string{"probe-terminal"}
		var out bytes.Buffer
		streams := IO{Stdout: &out}
		if mode == "shared" {
			streams.Stdin = os.Stdin
		}
		_, err := b.native.Run(t.Context(), &b.c, streams)
		fmt.Printf("<%s %v>", strings.ReplaceAll(out.String(), "\n", " "), err)
		return
	}
	for mode, want := range map[string]string{
		"alone":  "<type ENOTTY open ENXIO  <nil>>",
		"shared": "<type EPERM open <nil>  <nil>>",
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestTerminalOfTheBuilder$")
		cmd.Env = append(os.Environ(), "SANDBOX_TEST_TERMINAL="+mode)
		cmd.Stdin = openTerminal(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %s in:\n%s", mode, err, want, out)
		}
	}
}

// neverReader has nothing to say, ever.
type neverReader struct{ end chan struct{} }

func (r neverReader) Read([]byte) (int, error) { <-r.end; return 0, errors.New("closed") }

// Neither an input without end nor a cancelled run holds anything up, and
// nothing is left running afterwards.
func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	descriptors := openDescriptors(t)
	never := neverReader{make(chan struct{})}
	b := newBox(t)
	native := new(Native)
	for range 5 {
		b.spec.Process.Args = []string{"true"}
		start := time.Now()
		if status, err := native.Run(t.Context(), &b.c, IO{Stdin: never}); err != nil || status != (Status{}) {
			t.Fatal(status, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("a process that reads no input took %s", took)
		}
	}
	close(never.end)
	if err := native.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= before })
	if now := openDescriptors(t); !slices.Equal(now, descriptors) {
		t.Errorf("descriptors %v, before %v", now, descriptors)
	}
}

func openDescriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.Contains(to, "anon_inode") {
			open = append(open, to)
		}
	}
	slices.Sort(open)
	return open
}

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// box is a root over one layer with busybox in it.
type box struct {
	t      testing.TB
	dir    string
	spec   *specs.Spec
	c      Container
	native *Native
}

func newBox(t testing.TB) *box {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("the package busybox-static is needed: ", err)
	}
	dir := t.TempDir()
	layer := filepath.Join(dir, "layer")
	for _, d := range []string{"layer/bin", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layer+"/bin/busybox", b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "ls", "id", "mount", "unshare", "sleep", "touch", "mkdir", "hostname", "ip", "true", "env", "readlink", "kill", "ps", "echo", "setsid", "grep", "rm"} {
		if err := os.Symlink("busybox", layer+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec.Process.Env = []string{"PATH=/bin"}
	native := new(Native)
	t.Cleanup(func() {
		if err := native.Close(); err != nil {
			t.Error(err)
		}
	})
	return &box{t: t, dir: dir, spec: spec, native: native, c: Container{
		Rootfs: Rootfs{Lower: []string{layer}, Upper: dir + "/upper", Work: dir + "/work"},
		Spec:   spec,
	}}
}

func (b *box) layer() string { return filepath.Join(b.dir, "layer") }

func (b *box) try(args ...string) (string, Status, error) {
	b.spec.Process.Args = args
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	status, err := b.native.Run(ctx, &b.c, IO{Stdout: &out, Stderr: &out})
	return out.String(), status, err
}

// run runs a shell script and wants it to succeed.
func (b *box) run(script string) string {
	b.t.Helper()
	out, status, err := b.try("sh", "-c", script)
	if err != nil || status != (Status{}) {
		b.t.Fatalf("%s: %v, %v\n%s", script, status, err, out)
	}
	return out
}

// written lists what is in the upper directory.
func (b *box) written() []string {
	var paths []string
	filepath.WalkDir(b.dir+"/upper", func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			b.t.Error(err)
		}
		if rel, _ := filepath.Rel(b.dir+"/upper", p); rel != "." {
			paths = append(paths, rel)
		}
		return nil
	})
	return paths
}

func TestExitCodesAndSignals(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct {
		script string
		want   Status
	}{
		{"exit 0", Status{}},
		{"exit 3", Status{Code: 3}},
		{"sh -c 'kill -9 $$'; exit $?", Status{Code: 137}}, // of a child, as the shell has it
	} {
		if _, got, err := b.try("sh", "-c", c.script); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.script, got, err, c.want)
		}
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	b := newBox(t)
	if err := os.WriteFile(b.layer()+"/bin/data", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]int{"nothing": 127, "/bin/nothing": 127, "data": 126, "/bin/data": 126, "/bin": 126} {
		_, _, err := b.try(name)
		var missing *ExecError
		if !errors.As(err, &missing) || missing.Code() != code || missing.Command != name {
			t.Errorf("%s: %v, want an ExecError with code %d", name, err, code)
		}
	}
	b.spec.Process.Cwd = "/bin/sh"
	if _, _, err := b.try("true"); err == nil || !strings.Contains(err.Error(), "working directory /bin/sh") {
		t.Errorf("working directory that is a file: %v", err)
	}
}

func TestWhatIsWrittenIsTheUpperDirectory(t *testing.T) {
	b := newBox(t)
	b.run("mkdir /d && echo hi > /d/f && rm /bin/ip")
	if d := cmp.Diff([]string{"bin", "bin/ip", "d", "d/f"}, b.written()); d != "" {
		t.Error(d)
	}
	info, err := os.Lstat(b.dir + "/upper/bin/ip")
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("removed file: %v, %v, want a whiteout", info, err)
	}
}

// Mount points that the image lacks are there for the process and nowhere else.
func TestMountPointsLeaveNoTrace(t *testing.T) {
	b := newBox(t)
	conf := b.dir + "/resolv.conf"
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
		Destination: "/etc/resolv.conf", Type: "bind", Source: conf, Options: []string{"bind", "ro"}})
	if got := b.run("cat /etc/resolv.conf; ls -d /proc/1 /dev/null /sys/kernel"); !strings.HasPrefix(got, "nameserver 192.0.2.1\n") {
		t.Errorf("resolv.conf: %q", got)
	}
	if w := b.written(); len(w) != 0 {
		t.Errorf("written: %v, want nothing", w)
	}
	// Hidden by the image, a target is made, used and removed again.
	if err := os.MkdirAll(b.layer()+"/run", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.layer()+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../run/sub/resolv.conf", b.layer()+"/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	if got := b.run("cat /etc/resolv.conf"); got != "nameserver 192.0.2.1\n" {
		t.Errorf("resolv.conf behind a dangling link: %q", got)
	}
	if w := b.written(); len(w) != 0 {
		t.Errorf("written: %v, want nothing", w)
	}
}

func TestProcessSeesOnlyItsOwnWorld(t *testing.T) {
	b := newBox(t)
	t.Setenv("BUILDER_SECRET", "hunter2")
	out := b.run("hostname; env; echo $$; ls /proc | grep -c '^[0-9]'; ls /proc/self/fd; id; cat /proc/self/mountinfo")
	for _, hidden := range []string{"hunter2", "GOMAXPROCS", " /work ", " /home "} {
		if strings.Contains(out, hidden) {
			t.Errorf("the process sees %q:\n%s", hidden, out)
		}
	}
	if !strings.HasPrefix(out, Hostname+"\n") {
		t.Errorf("host name: %.40q", out)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, " / / ") && !strings.Contains(line, "overlay") {
			t.Errorf("a root that is not the overlay: %s", line)
		}
	}
}

// The thread that starts the sandbox may hold descriptors without
// close-on-exec; none may arrive.
func TestNoDescriptorIsInherited(t *testing.T) {
	b := newBox(t)
	fd, err := syscall.Open("/etc", syscall.O_RDONLY, 0) // no O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	got := strings.Fields(b.run("cd /proc/self/fd && for f in *; do readlink $f || true; done"))
	// Standard input is the host's /dev/null; of a tree that is not the process's
	// own, the kernel shows the whole path.
	for _, target := range got {
		if !strings.HasSuffix(target, "/dev/null") && !strings.HasPrefix(target, "pipe:") {
			t.Errorf("descriptor for %s: %v", target, got)
		}
	}
}

func TestPrivileges(t *testing.T) {
	b := newBox(t)
	status := b.run("cat /proc/self/status")
	field := func(name string) string {
		for line := range strings.Lines(status) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		t.Fatalf("no %s in\n%s", name, status)
		return ""
	}
	const docker = "00000000a80425fb" // the default set that docker documents
	for name, want := range map[string]string{
		"CapBnd": docker, "CapPrm": docker, "CapEff": docker, "CapInh": "0000000000000000",
		"CapAmb": "0000000000000000", "Seccomp": "2", "Uid": "0\t0\t0\t0",
	} {
		if got := field(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	b = newBox(t)
	b.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7}}
	status = b.run("cat /proc/self/status")
	for name, want := range map[string]string{
		"CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": docker,
		"Uid": "1000\t1000\t1000\t1000", "Gid": "1001\t1001\t1001\t1001", "Groups": "7",
	} {
		if got := field(name); got != want {
			t.Errorf("user: %s: %s, want %s", name, got, want)
		}
	}
}

func TestUserByName(t *testing.T) {
	b := newBox(t)
	if err := os.Mkdir(b.layer()+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"group":  "root:x:0:\napp:x:1000:\nextra:x:50:app\n",
	} {
		if err := os.WriteFile(filepath.Join(b.layer(), "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"":           "0 0 0 /root",
		"app":        "1000 1000 1000 50 /home/app",
		"1000":       "1000 1000 1000 50 /home/app",
		"app:0":      "1000 0 0 /home/app",
		"4711":       "4711 0 0 /",
		"4711:extra": "4711 50 50 /",
	} {
		b.spec.Process.User = specs.User{Username: name}
		if got := strings.TrimSpace(b.run("echo $(id -u) $(id -g) $(id -G) $HOME")); got != want {
			t.Errorf("user %q: %s, want %s", name, got, want)
		}
	}
	b.spec.Process.User = specs.User{Username: "nobody-here"}
	if _, _, err := b.try("true"); err == nil || !strings.Contains(err.Error(), "user nobody-here") {
		t.Errorf("unknown user: %v", err)
	}
}

func TestForbiddenThings(t *testing.T) {
	for _, script := range []string{
		"mount -t tmpfs none /mnt",
		"unshare -U true",
		"unshare -m true",
		"echo x > /proc/sys/kernel/hostname",
		"echo b > /proc/sysrq-trigger",
		"touch /sys/x",
		"hostname other",
		"cat /proc/kcore | grep -q .",
		"cat /proc/keys | grep -q .",
		"ls /sys/firmware | grep -q .",
	} {
		b := newBox(t)
		if err := os.Mkdir(b.layer()+"/mnt", 0o755); err != nil {
			t.Fatal(err)
		}
		if out, status, err := b.try("sh", "-c", script); err != nil || status.Code == 0 {
			t.Errorf("%s: %v, %v, want it refused: %s", script, status, err, out)
		}
	}
}

// An image whose own paths lead elsewhere gets its own paths.
func TestHostileImagePaths(t *testing.T) {
	b := newBox(t)
	outside := t.TempDir()
	for _, name := range []string{"proc", "dev", "sys", "etc"} {
		if err := os.Symlink("../../../../../.."+outside, filepath.Join(b.layer(), name)); err != nil {
			t.Fatal(err)
		}
	}
	conf := b.dir + "/resolv.conf"
	if err := os.WriteFile(conf, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
		Destination: "/etc/resolv.conf", Type: "bind", Source: conf, Options: []string{"bind", "ro"}})
	out, _, err := b.try("sh", "-c", "echo > /dev/made; echo > /etc/made")
	t.Logf("%s %v", out, err)
	entries, _ := os.ReadDir(outside)
	if len(entries) != 0 {
		t.Errorf("written outside the root: %v", entries)
	}
}

func TestNetworkNone(t *testing.T) {
	b := newBox(t)
	b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}
	var names []string
	for line := range strings.Lines(b.run("cat /proc/net/dev")) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	if d := cmp.Diff([]string{"lo"}, names); d != "" {
		t.Error(d)
	}
}

func TestManyLayers(t *testing.T) {
	b := newBox(t)
	for i := range 400 {
		dir := filepath.Join(b.dir, "layers", strings.Repeat("x", 200), fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/f%d", dir, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.c.Rootfs.Lower = append(b.c.Rootfs.Lower, dir)
	}
	if got := b.run("ls -d /f* | grep -c ."); got != "400\n" {
		t.Errorf("%s files, want 400", got)
	}
}

func TestOutputAndInput(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Args = []string{"sh", "-c", "cat; echo err >&2"}
	var stdout, stderr bytes.Buffer
	_, err := b.native.Run(t.Context(), &b.c, IO{Stdin: strings.NewReader("in\n"), Stdout: &stdout, Stderr: &stderr})
	if err != nil || stdout.String() != "in\n" || stderr.String() != "err\n" {
		t.Errorf("%q %q %v", &stdout, &stderr, err)
	}
}

// A process left behind holds the output open; it must not hold up the run.
func TestBackgroundProcessEndsWithTheCommand(t *testing.T) {
	b := newBox(t)
	start := time.Now()
	b.run("setsid sleep 1000 & sleep 0.05")
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func TestCancelKillsEverything(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Args = []string{"sh", "-c", "sleep 1000 & echo up; sleep 1000"}
	ctx, cancel := context.WithCancelCause(t.Context())
	boom := errors.New("enough")
	up := writerFunc(func([]byte) { cancel(boom) })
	start := time.Now()
	if _, err := b.native.Run(ctx, &b.c, IO{Stdout: up}); !errors.Is(err, boom) {
		t.Errorf("error %v, want the cause", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// A builder killed with -9 takes its steps with it, whatever user they run as.
func TestKilledBuilderLeavesNoProcess(t *testing.T) {
	if dir := os.Getenv("SANDBOX_TEST_BUILDER"); dir != "" {
		b := newBox(t)
		uid, _ := strconv.Atoi(os.Getenv("SANDBOX_TEST_UID"))
		b.spec.Process.User.UID = uint32(uid)
		b.spec.Process.Args = []string{os.Getenv("SANDBOX_TEST_COMMAND"), dir} // dir is the mark to be found by
		b.install("probe-user")
		b.native.Run(t.Context(), &b.c, IO{})
		return
	}
	for i, c := range []struct{ command, uid string }{
		{"sleep", "0"}, {"sleep", "1000"},
		{"probe-user", "0"}, // changes its user, and so loses its death signal
	} {
		mark := fmt.Sprintf("9%d%d", os.Getpid(), i)
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBuilderLeavesNoProcess$")
		cmd.Env = append(os.Environ(), "SANDBOX_TEST_BUILDER="+mark, "SANDBOX_TEST_UID="+c.uid, "SANDBOX_TEST_COMMAND="+c.command, "TMPDIR="+t.TempDir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, c.command, func() bool { return len(processes("sleep", mark)) == 1 })
		cmd.Process.Kill()
		cmd.Wait()
		waitFor(t, "end of "+c.command, func() bool { return len(processes("sleep", mark)) == 0 })
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no %s within 5 s", what)
}

// processes lists those with exactly these arguments.
func processes(args ...string) []string {
	var pids []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if slices.Equal(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), args) {
			pids = append(pids, f)
		}
	}
	return pids
}

// What a RUN step costs beyond the command itself.
func BenchmarkTrue(b *testing.B) {
	box := newBox(b)
	for _, dir := range []string{"proc", "dev", "sys", "etc"} { // as images have them
		if err := os.Mkdir(filepath.Join(box.layer(), dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	box.spec.Process.Args = []string{"true"}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if status, err := box.native.Run(b.Context(), &box.c, IO{}); err != nil || status != (Status{}) {
			b.Fatal(status, err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "median-ms")
	b.ReportMetric(float64(took[len(took)/10])/1e6, "p10-ms")
}

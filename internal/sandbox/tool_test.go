package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain makes this test binary three things: the tests, the inner half of a
// sandbox, and, under the name of a probe, a program to run in one.
func TestMain(m *testing.M) {
	Init()
	if probe, ok := probes[filepath.Base(os.Args[0])]; ok {
		probe()
		return
	}
	os.Exit(m.Run())
}

var probes = map[string]func(){
	"probe-calls":    probeCalls,
	"probe-terminal": probeTerminal,
	"probe-user":     probeUser,
}

// probeCalls tries system calls and prints the error of each.
func probeCalls() {
	report := func(name string, errno unix.Errno) {
		if errno == 0 {
			fmt.Println(name, "ok")
		} else {
			fmt.Println(name, unix.ErrnoName(errno))
		}
	}
	raw := func(name string, number, a, b, c uintptr) {
		_, _, errno := unix.RawSyscall(number, a, b, c)
		report(name, errno)
	}
	raw("getpid", unix.SYS_GETPID, 0, 0, 0)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
	raw("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0, 0)
	raw("add_key", unix.SYS_ADD_KEY, 0, 0, 0)
	raw("mount", unix.SYS_MOUNT, 0, 0, 0)
	raw("open_tree", unix.SYS_OPEN_TREE, ^uintptr(0), 0, 0)
	raw("bpf", unix.SYS_BPF, 0, 0, 0)
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0)
	raw("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	raw("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	raw("reboot", unix.SYS_REBOOT, 0, 0, 0)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0, 0)
	raw("userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0)
	raw("clone of a user namespace", unix.SYS_CLONE, unix.CLONE_NEWUSER, 0, 0)
	raw("clone3", unix.SYS_CLONE3, 0, 0, 0)
	raw("socket vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	raw("socket inet", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	raw("personality of chroot's number", unix.SYS_PERSONALITY, unix.SYS_CHROOT, 0, 0)
}

// probeTerminal tries to type into the terminal it has, or opens /dev/tty.
func probeTerminal() {
	c := byte('x')
	fmt.Println("type", errnoOf(unix.IoctlSetPointerInt(0, unix.TIOCSTI, int(c))))
	_, err := unix.Open("/dev/tty", unix.O_RDWR, 0)
	fmt.Println("open", errnoOf(err))
}

// probeUser becomes another user for good, as gosu does, and then sleeps.
func probeUser() {
	err := syscall.Setresuid(1234, 1234, 1234)
	if err == nil {
		err = syscall.Exec("/bin/sleep", append([]string{"sleep"}, os.Args[1:]...), nil)
	}
	fmt.Println(err)
	os.Exit(1)
}

func errnoOf(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(err)
}

// install puts this test binary into the layer as a probe.
func (b *box) install(probe string) {
	b.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.layer(), "bin", probe), self, 0o755); err != nil {
		b.t.Fatal(err)
	}
}

func TestSeccompRefusesWhatDockerRefuses(t *testing.T) {
	b := newBox(t)
	b.install("probe-calls")
	out, status, err := b.try("probe-calls")
	if err != nil || status != (Status{}) {
		t.Fatal(status, err, out)
	}
	want := map[string]string{"getpid": "ok", "socket inet": "ok", "clone3": "ENOSYS"}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		name, got := line[:i], line[i+1:]
		expected, ok := want[name]
		if !ok {
			expected = "EPERM"
		}
		if got != expected {
			t.Errorf("%s: %s, want %s", name, got, expected)
		}
	}
	if n := strings.Count(out, "\n"); n != 18 {
		t.Errorf("%d calls tried, want 18:\n%s", n, out)
	}
}

// Command probe runs inside a sandbox under test and prints what it may do. It
// is a program of its own, always static: the test binary may need a loader.
package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[0] {
	case "probe-calls":
		probeCalls()
	case "probe-terminal":
		probeTerminal()
	case "probe-user":
		probeUser()
	default:
		fmt.Println("no such probe")
		os.Exit(2)
	}
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

package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Rootfs is the root of a process: an overlay that is mounted inside the
// process's own mount namespace.
type Rootfs struct {
	Lower    []string // topmost first; may be empty
	Upper    string   // takes what is written
	Work     string   // on the file system of Upper; what the run leaves there is the caller's to remove
	ReadOnly bool     // the process cannot write to Upper
}

// Container is a process and what surrounds it. Of the spec these parts count:
// Process (Args, Env, Cwd, User, Capabilities, Rlimits, NoNewPrivileges),
// Hostname, Mounts, and of Linux MaskedPaths, ReadonlyPaths, Seccomp and a
// network namespace: listed, the process gets a new one with only a loopback
// interface; not listed, it has the host's. Namespaces that are joined by a
// path are refused. A seccomp profile must not change once it was used.
//
// Process.User.Username, when set, is "user[:group]" by name or number and is
// looked up in the root's own /etc/passwd and /etc/group. HOME is set from
// there where Env has none.
type Container struct {
	Rootfs Rootfs
	Spec   *specs.Spec
}

// IO is what a process reads and writes. A nil Stdin is empty, a nil Stdout or
// Stderr drops what is written. An *os.File is handed to the process itself.
//
// With a terminal among them the process stays in the terminal's session and
// foreground, so keys like ^C reach it. Else it gets a session of its own: it
// cannot open the builder's terminal.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // passed on to the process
}

// Status is how a process ended.
type Status struct {
	Code   int            // exit code, when Signal is 0
	Signal syscall.Signal // that killed it, or 0
}

func (s Status) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%s)", int(s.Signal), s.Signal)
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// ExecError says that the command could not be started: it is not there, or
// not executable.
type ExecError struct {
	Command string
	Errno   syscall.Errno
	Exists  bool // the file is there, executable, and the kernel refused it
}

func (e *ExecError) Error() string {
	var why string
	switch {
	case e.Errno == unix.ENOENT && e.Exists:
		why = "the file is there, its interpreter or dynamic loader is not"
	case e.Errno == unix.ENOENT && !strings.Contains(e.Command, "/"):
		why = "executable file not found in $PATH"
	default:
		why = e.Errno.Error()
	}
	return fmt.Sprintf("exec %q: %s", e.Command, why)
}

// Code is the exit code that shells and docker give for it: 127 for a command
// that is not there, else 126.
func (e *ExecError) Code() int {
	if e.Errno == unix.ENOENT {
		return 127
	}
	return 126
}

// Driver runs containers. When ctx ends, the process and all it started are
// killed and Run returns ctx's cause. A command that cannot be started is an
// *ExecError; any other error means that the sandbox could not be set up.
type Driver interface {
	Run(ctx context.Context, c *Container, io IO) (Status, error)
}

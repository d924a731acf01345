package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Rootfs is the root of a process: an overlay that is mounted inside the
// process's own mount namespace.
type Rootfs struct {
	Lower []string // topmost first; may be empty
	Upper string   // takes what is written
	Work  string   // overlayfs's own, empty, on the file system of Upper
}

// Container is a process and what surrounds it. Of the spec these parts count:
// Process (Args, Env, Cwd, User, Capabilities.Bounding, Rlimits,
// NoNewPrivileges), Hostname, Mounts, and of Linux a network namespace,
// MaskedPaths, ReadonlyPaths and Seccomp.
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
}

func (e *ExecError) Error() string {
	if e.Errno == syscall.ENOENT {
		return fmt.Sprintf("%s: not found in the image", e.Command)
	}
	return fmt.Sprintf("%s: %v", e.Command, e.Errno)
}

// Code is the exit code that shells and docker give for it: 127 for a command
// that is not there, else 126.
func (e *ExecError) Code() int {
	if e.Errno == syscall.ENOENT {
		return 127
	}
	return 126
}

// Driver runs containers. When ctx ends, the process and all it started are
// killed and Run returns ctx's cause.
type Driver interface {
	Run(ctx context.Context, c *Container, io IO) (Status, error)
}

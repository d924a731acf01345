package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Init becomes the inner half of a sandbox, and never returns, when this
// process was started as one; else it does nothing. A program that uses
// [Native] calls it before anything else.
func Init() {
	if len(os.Args) == 0 || os.Args[0] != initName {
		return
	}
	// Privileges belong to threads: everything happens on this one, which
	// becomes the command.
	runtime.LockOSThread()
	report := os.NewFile(initReportFD, "report")
	err := runInit(report)
	var missing *ExecError
	if errors.As(err, &missing) {
		send(report, initReport{Command: missing.Command, Errno: missing.Errno})
	} else {
		send(report, initReport{Failure: err.Error()})
	}
	os.Exit(1)
}

func send(w *os.File, r initReport) {
	b, err := json.Marshal(r)
	if err == nil {
		w.Write(append(b, '\n')) //nolint:errcheck // nobody is left to tell
	}
}

// runInit sets everything up and executes the command. It returns only to say
// what went wrong.
func runInit(report *os.File) error {
	unix.CloseOnExec(initReportFD)
	var c initConfig
	config := os.NewFile(initConfigFD, "config")
	if err := json.NewDecoder(config).Decode(&c); err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	config.Close()
	// A keyring of its own: the builder's would be inherited.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("session keyring: %w", err)
	}
	made, err := c.mountRoot()
	if len(made) > 0 {
		send(report, initReport{Made: made})
	}
	if err != nil {
		return err
	}
	if c.Spec.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Spec.Hostname)); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
	}
	if c.NewNet {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	if err := c.hidePaths(); err != nil {
		return err
	}
	return c.exec()
}

// exec gives up what the process must not have, and becomes it.
func (c *initConfig) exec() error {
	p := c.Spec.Process
	if err := resolveUser(p); err != nil {
		return err
	}
	if err := enter(p.Cwd); err != nil {
		return err
	}
	// Everything but the standard streams ends with execve.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close descriptors: %w", err)
	}
	for _, l := range p.Rlimits {
		if err := setRlimit(l); err != nil {
			return fmt.Errorf("limit %s: %w", l.Type, err)
		}
	}
	unix.Umask(0o022)
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	// The filter goes in while there is the right to do so; it lets the calls
	// below through, as it must for any process that changes its user.
	if err := loadFilter(c.Filter); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if err := becomeUser(p); err != nil {
		return err
	}
	// The kernel dropped this when the user changed. A builder that ended in
	// between shows by its end of the report pipe.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	poll := []unix.PollFd{{Fd: initReportFD}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLERR != 0 {
		return errors.New("the builder is gone")
	}
	path, err := lookPath(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	err = unix.Exec(path, p.Args, p.Env)
	errno, _ := err.(syscall.Errno)
	return &ExecError{Command: p.Args[0], Errno: errno}
}

// enter changes into dir, inside the root. A directory that is reached through
// a descriptor of someone else (/proc/self/fd/N) may lie outside: the kernel
// then has no absolute name for it.
func enter(dir string) error {
	if dir == "" {
		dir = "/"
	}
	err := unix.Chdir(dir)
	if err == unix.ENOENT {
		// As runc does: an image may name a directory that it does not have.
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = unix.Chdir(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("working directory %s: %w", dir, err)
	}
	cwd, err := unix.Getwd()
	if err != nil || !strings.HasPrefix(cwd, "/") {
		return fmt.Errorf("working directory %s: it is not inside the root", dir)
	}
	return nil
}

// lookPath finds the command as execvp does, with the PATH of the process.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	errno := unix.ENOENT
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		var st unix.Stat_t
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
		errno = unix.EACCES
	}
	return "", &ExecError{Command: name, Errno: errno}
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
	"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func setRlimit(l specs.POSIXRlimit) error {
	which, ok := rlimits[l.Type]
	if !ok {
		return errors.New("no such limit")
	}
	return unix.Setrlimit(which, &unix.Rlimit{Cur: l.Soft, Max: l.Hard})
}

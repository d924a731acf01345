package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// exec gives up what the process must not have, and becomes it. It returns only
// to say what went wrong.
func (s *setup) exec() error {
	if err := s.resolveUser(); err != nil {
		return err
	}
	if err := enterDir(s.Cwd); err != nil {
		return err
	}
	// Everything but the standard streams ends with execve.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close descriptors: %w", err)
	}
	for _, l := range s.Rlimits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("limit %s: %w", l.Name, err)
		}
	}
	unix.Umask(0o022)
	if err := s.dropPrivileges(); err != nil {
		return err
	}
	// The kernel dropped this when the user changed. A builder that ended in
	// between shows by its end of the report pipe.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	poll := []unix.PollFd{{Fd: reportFD}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLERR != 0 {
		return errors.New("the builder is gone")
	}
	path, err := lookPath(s.Args[0], s.Env)
	if err != nil {
		return err
	}
	err = unix.Exec(path, s.Args, s.Env)
	errno, _ := err.(syscall.Errno)
	return &ExecError{Command: s.Args[0], Errno: errno, Exists: unix.Access(path, unix.X_OK) == nil}
}

// enterDir changes into dir, inside the root. A directory that is reached
// through a descriptor (/proc/self/fd/N) may lie outside: no magic link is
// followed, and to be sure the kernel is asked for the name of where we are,
// which is absolute only inside.
func enterDir(dir string) error {
	if dir == "" {
		dir = "/"
	}
	// As with runc, a directory that the image names and does not have is made.
	fd, _, err := openTarget(dir, false, false)
	if err != nil {
		return fmt.Errorf("working directory %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
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
		if name == "" || unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
		errno = unix.EACCES
	}
	return "", &ExecError{Command: name, Errno: errno}
}

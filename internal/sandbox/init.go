package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The inner half's descriptors, and its name in argv[0].
const (
	setupFD  = 3
	reportFD = 4
	selfFD   = 5
	initName = "stagecraft-sandbox"
)

// report is what the inner half answers, as JSON values on reportFD. The
// descriptor closes without a failure when the command has been started.
type report struct {
	Made    []string   `json:",omitempty"` // mount targets that had to be made in the image's root
	Failure string     `json:",omitempty"`
	Exec    *ExecError `json:",omitempty"` // the command could not be started
}

// Init becomes the inner half of a sandbox, or the guard of all, and never
// returns, when this process was started as one; else it does nothing. A program
// that uses [Native] calls it before anything else.
func Init() {
	switch {
	case len(os.Args) > 0 && os.Args[0] == guardName:
		guardMain()
		unix.Exit(0) // at once: there is nothing to be written out
	case len(os.Args) == 0 || os.Args[0] != initName:
		return
	}
	// Privileges belong to threads: everything happens on this one, which
	// becomes the command.
	runtime.LockOSThread()
	err := becomeCommand()
	var exec *ExecError
	if errors.As(err, &exec) {
		report{Exec: exec}.send()
	} else {
		report{Failure: err.Error()}.send()
	}
	unix.Exit(1)
}

func (r report) send() {
	b, err := json.Marshal(r)
	if err == nil {
		unix.Write(reportFD, b) //nolint:errcheck // nobody is left to tell
	}
}

// readSetup reads what the outer half says.
func readSetup() (*setup, error) {
	var st unix.Stat_t
	if err := unix.Fstat(setupFD, &st); err != nil {
		return nil, fmt.Errorf("read setup: %w", err)
	}
	b := make([]byte, st.Size)
	n, err := unix.Pread(setupFD, b, 0)
	if err != nil {
		return nil, fmt.Errorf("read setup: %w", err)
	}
	b = b[:n]
	s := new(setup)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read setup: %w", err)
	}
	return s, nil
}

// becomeCommand sets everything up and executes the command. It returns only to
// say what went wrong.
func becomeCommand() error {
	for _, fd := range []int{setupFD, reportFD, selfFD} {
		unix.CloseOnExec(fd)
	}
	s, err := readSetup()
	if err != nil {
		return err
	}
	// A keyring of its own: the builder's would be inherited.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("session keyring: %w", err)
	}
	unix.Umask(0)
	made, err := s.enterRoot()
	if len(made) > 0 {
		report{Made: made}.send()
	}
	if err != nil {
		return err
	}
	if err := s.hidePaths(); err != nil {
		return err
	}
	if s.ReadOnly {
		if err := makeRootReadonly(); err != nil {
			return err
		}
	}
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
	}
	if s.NewNetwork {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	return s.exec()
}

// raiseLoopback brings up lo, which a new network namespace has down.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

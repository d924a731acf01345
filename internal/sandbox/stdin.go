package sandbox

import (
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// stdin feeds a process from any reader. Unlike the feeding that os/exec does,
// nobody waits for it: a reader that has nothing to say when the process ends
// (a terminal, a connection) must not hold up the end of the run. Its goroutine
// leaves at the reader's next byte or end.
type stdin struct {
	child *os.File // what the process reads; nil: nothing
	feed  *os.File // the other end, for a reader that is not a file
	from  io.Reader
}

func openStdin(r io.Reader) (*stdin, error) {
	switch r := r.(type) {
	case nil:
		return &stdin{}, nil
	case *os.File:
		return &stdin{child: r}, nil
	}
	child, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &stdin{child: child, feed: feed, from: r}, nil
}

// start begins feeding; the process has its end by now.
func (s *stdin) start() {
	if s.feed == nil {
		return
	}
	s.child.Close()
	go func() {
		io.Copy(s.feed, s.from) //nolint:errcheck // the process may read as little as it likes
		s.feed.Close()
	}()
}

func (s *stdin) stop() {
	if s.feed != nil {
		s.child.Close()
		s.feed.Close()
	}
}

// hasTerminal tells that a terminal is handed to the process.
func (io IO) hasTerminal() bool {
	for _, stream := range []any{io.Stdin, io.Stdout, io.Stderr} {
		f, ok := stream.(*os.File)
		if !ok || f == nil {
			continue
		}
		c, err := f.SyscallConn()
		if err != nil {
			continue
		}
		terminal := false
		err = c.Control(func(fd uintptr) {
			_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
			terminal = err == nil
		})
		if err == nil && terminal {
			return true
		}
	}
	return false
}

// terminalProfile keeps a process that shares the builder's terminal from
// typing into it: the shell would read that as the user's own input after the
// process ended.
var terminalProfile = &specs.LinuxSeccomp{
	DefaultAction: specs.ActAllow,
	Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM},
	Syscalls: []specs.LinuxSyscall{
		{Names: []string{"ioctl"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{ioctlRequest(unix.TIOCSTI)}},
		{Names: []string{"ioctl"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{ioctlRequest(unix.TIOCLINUX)}},
	},
}

// ioctlRequest matches a request; the kernel looks at its low 32 bits alone.
func ioctlRequest(request uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: 1, Op: specs.OpMaskedEqual, Value: 0xffffffff, ValueTwo: request}
}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// guard ends the sandboxes of a builder that was killed.
//
// The kernel would do so by the death signal that each process has, but forgets
// it when a process changes its user: a step that runs gosu, runuser or a setuid
// program as its first process would live on. So one small process, started
// with the first sandbox, holds a descriptor of each, and the end of a socket:
// when the builder is gone, in whatever way, the socket closes, the guard kills
// what is left and ends.
type guard struct {
	mu     sync.Mutex
	socket *os.File
	cmd    *exec.Cmd
}

// The guard's name in argv[0], and its descriptors.
const (
	guardName     = "stagecraft-guard"
	guardSocketFD = 3
	guardSelfFD   = 4
)

// watch hands a process to the guard, and starts it where there is none.
func (g *guard) watch(pidfd int, self *os.File) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.socket != nil {
		err := g.send(pidfd)
		if err == nil {
			return nil
		}
		g.stop() // somebody ended it
	}
	if err := g.start(self); err != nil {
		return fmt.Errorf("start guard: %w", err)
	}
	if err := g.send(pidfd); err != nil {
		return fmt.Errorf("tell guard: %w", err)
	}
	return nil
}

func (g *guard) send(pidfd int) error {
	return unix.Sendmsg(int(g.socket.Fd()), []byte{0}, unix.UnixRights(pidfd), nil, unix.MSG_NOSIGNAL)
}

func (g *guard) start(self *os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, its := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "guard")
	defer its.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", guardSelfFD))
	cmd.Args, cmd.Env, cmd.Dir = []string{guardName}, initEnv, "/"
	cmd.ExtraFiles = []*os.File{its, self}
	// What is typed at the builder's terminal, or sent to its process group,
	// must not end the guard first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return err
	}
	g.socket, g.cmd = ours, cmd
	return nil
}

// stop ends the guard, which kills what it still watches.
func (g *guard) stop() {
	if g.socket != nil {
		g.socket.Close()
		g.cmd.Wait() //nolint:errcheck // however it ended, it did
		g.socket, g.cmd = nil, nil
	}
}

// guardMain is the guard's life: processes come in by the socket, and leave by
// their end. It returns when the builder is gone.
func guardMain() {
	unix.CloseOnExec(guardSocketFD)
	unix.Close(guardSelfFD)
	polls := []unix.PollFd{{Fd: guardSocketFD, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(polls, -1); err != nil && err != unix.EINTR {
			break
		}
		alive := polls[:1]
		for _, p := range polls[1:] {
			if p.Revents == 0 {
				alive = append(alive, p)
			} else {
				unix.Close(int(p.Fd))
			}
		}
		polls = alive
		if polls[0].Revents == 0 {
			continue
		}
		fds, err := receive()
		if err != nil {
			break
		}
		for _, fd := range fds {
			polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	for _, p := range polls[1:] {
		unix.PidfdSendSignal(int(p.Fd), unix.SIGKILL, nil, 0) //nolint:errcheck // it may just have ended
	}
}

// receive takes the descriptors of one message.
func receive() ([]int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, size, _, _, err := unix.Recvmsg(guardSocketFD, data, control, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the builder is gone")
	}
	messages, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("a message without a descriptor"), err)
	}
	return unix.ParseUnixRights(&messages[0])
}

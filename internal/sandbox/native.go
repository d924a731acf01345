package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Native runs containers by means of the kernel alone (Linux 5.12 or newer).
// The zero value is ready to use, by several goroutines at once. The program's
// main must call [Init] first.
type Native struct {
	filters sync.Map // of seccomp profiles, compiled: *specs.LinuxSeccomp -> []byte

	openSelf sync.Once
	self     *os.File // this program, see openReadonly; lives as long as the driver
	selfErr  error

	guard guard
}

var _ Driver = (*Native)(nil)

// Close gives up what the driver holds; no Run may be under way. A program that
// ends need not call it.
func (n *Native) Close() error {
	n.guard.mu.Lock()
	defer n.guard.mu.Unlock()
	n.guard.stop()
	n.openSelf.Do(func() { n.selfErr = os.ErrClosed })
	if n.self == nil {
		return nil
	}
	return n.self.Close()
}

// Run runs the container's process to its end.
func (n *Native) Run(ctx context.Context, c *Container, streams IO) (Status, error) {
	if err := context.Cause(ctx); err != nil {
		return Status{}, err
	}
	n.openSelf.Do(func() { n.self, n.selfErr = openReadonly("/proc/self/exe") })
	if n.selfErr != nil {
		return Status{}, fmt.Errorf("sandbox: %w", n.selfErr)
	}
	s, err := n.newSetup(c)
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	if streams.hasTerminal() {
		filter, err := n.filter(terminalProfile)
		if err != nil {
			return Status{}, fmt.Errorf("sandbox: %w", err)
		}
		s.Filters = append(s.Filters, filter)
	}
	status, err := n.runThread(ctx, s, streams)
	// A process that ended by itself just before ctx did has its own result.
	if cause := context.Cause(ctx); cause != nil && (err != nil || status.Signal == syscall.SIGKILL) {
		return Status{}, cause
	}
	var exec *ExecError
	if err != nil && !errors.As(err, &exec) {
		err = fmt.Errorf("sandbox: %w", err)
	}
	return status, err
}

// runThread runs the process from a thread that lives as long as the process
// does: its death signal is sent when the thread ends that started it.
func (n *Native) runThread(ctx context.Context, s *setup, streams IO) (Status, error) {
	var (
		status Status
		err    error
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		status, err = n.run(ctx, s, streams)
	}()
	<-done
	return status, err
}

func (n *Native) run(ctx context.Context, s *setup, streams IO) (Status, error) {
	input, err := s.file()
	if err != nil {
		return Status{}, err
	}
	defer input.Close()
	reports, answer, err := os.Pipe()
	if err != nil {
		return Status{}, err
	}
	defer reports.Close()
	defer answer.Close()
	stdin, err := openStdin(streams.Stdin)
	if err != nil {
		return Status{}, err
	}
	defer stdin.stop()

	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", selfFD))
	cmd.Args = []string{initName}
	cmd.Env = initEnv
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = streams.Stdout, streams.Stderr
	if stdin.child != nil {
		cmd.Stdin = stdin.child
	}
	cmd.ExtraFiles = []*os.File{input, answer, n.self} // setupFD and so on
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{
		PidFD:      &pidfd,
		Cloneflags: s.cloneFlags,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     !streams.hasTerminal(),
	}
	// A descriptor that was handed to someone outside, over a socket of the
	// host say, must not keep the builder waiting for its end.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		return Status{}, fmt.Errorf("start in new namespaces: %w", err)
	}
	answer.Close()
	stdin.start()
	guardErr := n.guard.watch(pidfd, n.self)
	if guardErr != nil {
		cmd.Process.Kill() //nolint:errcheck // it may just have ended
	}
	unix.Close(pidfd)
	stop := make(chan struct{})
	var forwarder sync.WaitGroup
	forwarder.Go(func() { forward(cmd.Process, streams.Signals, stop) })
	started := readReports(reports)
	waitErr := cmd.Wait()
	close(stop)
	forwarder.Wait()
	if guardErr != nil {
		return Status{}, guardErr
	}
	if err := s.removeTraces(started.Made); err != nil {
		return Status{}, err
	}
	if err := started.err(); err != nil {
		return Status{}, err
	}
	return statusOf(cmd.ProcessState, waitErr)
}

// initEnv is the environment of the inner half, none of which the command sees:
// it is short-lived and has no use for threads, collections or preemption.
var initEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}

// file is the setup in a file without a name, from its start.
func (s *setup) file() (*os.File, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("setup", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "setup")
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return f, nil
}

// readReports reads what the inner half says until it becomes the command or
// ends, and makes one of it. What cannot be read is a failure too.
func readReports(r io.Reader) report {
	var all report
	for dec := json.NewDecoder(io.LimitReader(r, 1<<20)); ; {
		var one report
		switch err := dec.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			all.Failure = "report of the process: " + err.Error()
			return all
		}
		all.Made = append(all.Made, one.Made...)
		all.Failure += one.Failure
		if one.Exec != nil {
			all.Exec = one.Exec
		}
	}
}

func (r report) err() error {
	switch {
	case r.Exec != nil:
		return r.Exec
	case r.Failure != "":
		return errors.New(r.Failure)
	}
	return nil
}

func statusOf(state *os.ProcessState, waitErr error) (Status, error) {
	if state == nil {
		return Status{}, fmt.Errorf("wait: %w", waitErr)
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return Status{}, fmt.Errorf("wait: %w", waitErr)
	}
	if ws.Signaled() {
		return Status{Signal: ws.Signal()}, nil
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) && !errors.Is(waitErr, exec.ErrWaitDelay) && !isContextError(waitErr) {
		return Status{}, fmt.Errorf("output: %w", waitErr)
	}
	return Status{Code: ws.ExitStatus()}, nil
}

// isContextError tells that the process ended by itself while ctx did.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// forward passes signals on until stop.
func forward(p *os.Process, signals <-chan os.Signal, stop <-chan struct{}) {
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			p.Signal(s) //nolint:errcheck // it may just have ended
		case <-stop:
			return
		}
	}
}

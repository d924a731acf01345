package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Native runs containers by means of the kernel alone. The zero value is ready
// to use. The program's main must call [Init] first.
type Native struct {
	filters sync.Map // of seccomp profiles, compiled: *specs.LinuxSeccomp -> []byte
}

// initConfig is what the inner half is told, as JSON on initConfigFD.
type initConfig struct {
	Rootfs Rootfs
	Root   string // empty directory to mount the root on
	Stub   string // lowest layer: what mounts need and the image may lack
	Spec   *specs.Spec
	Filter []byte // compiled seccomp profile
	NewNet bool
}

// initReport is what the inner half answers, as JSON lines on initReportFD. The
// descriptor closes without a failure when the command has been started.
type initReport struct {
	Made    []string      // mount targets that had to be made in the image's root
	Failure string        `json:",omitempty"`
	Command string        `json:",omitempty"` // with Errno: the command that could not be started
	Errno   syscall.Errno `json:",omitempty"`
}

// The inner half's descriptors, and its name in argv[0].
const (
	initConfigFD = 3
	initReportFD = 4
	initName     = "stagecraft-sandbox"
)

// Run runs the container's process to its end.
func (n *Native) Run(ctx context.Context, c *Container, streams IO) (Status, error) {
	if err := context.Cause(ctx); err != nil {
		return Status{}, err
	}
	config, err := n.configure(c)
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer config.cleanUp()
	if err := config.makeStubs(); err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}

	type outcome struct {
		status Status
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		// PR_SET_PDEATHSIG looks at the thread that started the child: it has
		// to live as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		status, err := config.runChild(ctx, streams)
		done <- outcome{status, err}
	}()
	o := <-done
	if cause := context.Cause(ctx); cause != nil {
		return Status{}, cause
	}
	return o.status, o.err
}

func (n *Native) configure(c *Container) (*initConfig, error) {
	p := c.Spec.Process
	if p == nil || len(p.Args) == 0 {
		return nil, errors.New("no command to run")
	}
	config := &initConfig{Rootfs: c.Rootfs}
	spec := *c.Spec
	if spec.Linux != nil {
		linux := *spec.Linux
		filter, err := n.filter(linux.Seccomp)
		if err != nil {
			return nil, err
		}
		for _, ns := range linux.Namespaces {
			if ns.Type == specs.NetworkNamespace && ns.Path == "" {
				config.NewNet = true
			}
		}
		config.Filter, linux.Seccomp = filter, nil
		spec.Linux = &linux
	}
	config.Spec = &spec
	dir := filepath.Dir(c.Rootfs.Upper)
	config.Root = filepath.Join(dir, "root")
	config.Stub = filepath.Join(dir, "stub")
	return config, nil
}

func (n *Native) filter(profile *specs.LinuxSeccomp) ([]byte, error) {
	if f, ok := n.filters.Load(profile); ok {
		return f.([]byte), nil
	}
	f, err := compileSeccomp(profile)
	if err == nil {
		n.filters.Store(profile, f)
	}
	return f, err
}

// makeStubs makes the lowest layer: an empty directory or file for everything
// that will be mounted. Where the image has the path, that hides the stub.
func (c *initConfig) makeStubs() error {
	if err := os.Mkdir(c.Root, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(c.Stub, 0o755); err != nil {
		return err
	}
	for _, m := range c.Spec.Mounts {
		if strings.HasPrefix(m.Destination, "/dev/") {
			continue // made on the tmpfs that is /dev
		}
		dest := filepath.Join(c.Stub, filepath.Clean("/"+m.Destination))
		if err := makeTarget(dest, m); err != nil {
			return fmt.Errorf("mount point %s: %w", m.Destination, err)
		}
	}
	return nil
}

// makeTarget makes what m can be mounted on: a file for a file, else a directory.
func makeTarget(path string, m specs.Mount) error {
	if m.Type == "bind" {
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o644)
		}
	}
	return os.MkdirAll(path, 0o755)
}

func (c *initConfig) cleanUp() {
	os.RemoveAll(c.Stub)
	os.Remove(c.Root)
}

// runChild starts the inner half, which becomes the command, and waits.
func (c *initConfig) runChild(ctx context.Context, streams IO) (Status, error) {
	configR, configW, err := os.Pipe()
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer configW.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		configR.Close()
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer reportR.Close()

	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if c.NewNet {
		flags |= unix.CLONE_NEWNET
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.Stdin, streams.Stdout, streams.Stderr
	cmd.ExtraFiles = []*os.File{configR, reportW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	// A descriptor that was handed to someone outside, over a socket of the
	// host say, must not keep the builder waiting for its end.
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Start()
	configR.Close()
	reportW.Close()
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: start in new namespaces: %w", err)
	}

	stop := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() {
		// An error shows in the report: the child gets no whole value.
		json.NewEncoder(configW).Encode(c) //nolint:errcheck
		configW.Close()
	})
	helpers.Go(func() { forward(cmd.Process, streams.Signals, stop) })
	reports, readErr := readReports(reportR)
	waitErr := cmd.Wait()
	close(stop)
	helpers.Wait()

	c.removeMade(reports)
	for _, r := range reports {
		switch {
		case r.Command != "":
			return Status{}, &ExecError{Command: r.Command, Errno: r.Errno}
		case r.Failure != "":
			return Status{}, fmt.Errorf("sandbox: %s", r.Failure)
		}
	}
	if readErr != nil {
		return Status{}, fmt.Errorf("sandbox: %w", readErr)
	}
	return statusOf(cmd.ProcessState, waitErr)
}

func statusOf(state *os.ProcessState, waitErr error) (Status, error) {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return Status{}, fmt.Errorf("sandbox: wait: %w", waitErr)
	}
	if ws.Signaled() {
		return Status{Signal: ws.Signal()}, nil
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) && !errors.Is(waitErr, exec.ErrWaitDelay) {
		return Status{}, fmt.Errorf("sandbox: output: %w", waitErr)
	}
	return Status{Code: ws.ExitStatus()}, nil
}

func readReports(r io.Reader) ([]initReport, error) {
	var reports []initReport
	dec := json.NewDecoder(r)
	for {
		var report initReport
		switch err := dec.Decode(&report); {
		case errors.Is(err, io.EOF):
			return reports, nil
		case err != nil:
			return reports, fmt.Errorf("report of the process: %w", err)
		}
		reports = append(reports, report)
	}
}

// forward passes signals on until stop.
func forward(p *os.Process, signals <-chan os.Signal, stop <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			p.Signal(s) //nolint:errcheck // it may just have ended
		case <-stop:
			return
		}
	}
}

// removeMade removes the mount targets that had to be made in the image's own
// root, last first, where the process left them as they were: empty.
func (c *initConfig) removeMade(reports []initReport) {
	root, err := os.OpenRoot(c.Rootfs.Upper)
	if err != nil {
		return // there is nothing left that a trace could be in
	}
	defer root.Close()
	for _, r := range reports {
		for i := len(r.Made) - 1; i >= 0; i-- {
			info, err := root.Lstat(r.Made[i])
			if err == nil && (info.IsDir() || info.Mode().IsRegular() && info.Size() == 0) {
				root.Remove(r.Made[i]) //nolint:errcheck // a directory that is in use now stays
			}
		}
	}
}

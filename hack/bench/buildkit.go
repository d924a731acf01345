package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// buildkit is a daemon of our own, with its OCI worker on runc and overlayfs, and
// its client.
type buildkit struct {
	dir        string
	daemonPath string
	clientPath string
	bases      []base

	daemon *exec.Cmd // nil while none runs
	ended  chan error
	log    *os.File
}

// daemonPatience bounds how long the daemon may take to start, and to end.
const daemonPatience = 60 * time.Second

func (k *buildkit) name() string { return "buildkit" }

func (k *buildkit) version(ctx context.Context) (string, error) {
	_, daemon, err := execute(ctx, place{}, k.daemonPath, "--version")
	if err != nil {
		return "", err
	}
	_, runc, err := execute(ctx, place{}, "runc", "--version")
	first, _, _ := strings.Cut(string(runc), "\n")
	return string(bytes.TrimSpace(daemon)) + ", " + first, err
}

func (k *buildkit) reset(ctx context.Context, bases ...base) error {
	if err := k.close(); err != nil {
		return err
	}
	k.bases = bases
	if err := k.startDaemon(ctx); err != nil {
		return err
	}
	return warmUp(ctx, k, k.dir, bases)
}

func (k *buildkit) address() string { return "unix://" + filepath.Join(k.dir, "buildkitd.sock") }

func (k *buildkit) startDaemon(ctx context.Context) error {
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(k.dir, "buildkitd.log"))
	if err != nil {
		return err
	}
	config := filepath.Join(k.dir, "buildkitd.toml") // empty: not what this machine may have in /etc
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		return errors.Join(err, log.Close())
	}
	// Not bound to ctx: close ends it, whatever happens.
	cmd := exec.Command(k.daemonPath, "--config", config, "--root", filepath.Join(k.dir, "root"), "--addr", k.address(),
		"--containerd-worker=false", "--oci-worker=true", "--oci-worker-snapshotter=overlayfs",
		"--oci-worker-binary=runc", "--oci-worker-net=host", "--oci-worker-gc=false")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for us alone
	forgetPeak()
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	k.daemon, k.log, k.ended = cmd, log, make(chan error, 1)
	go func() { k.ended <- cmd.Wait() }()
	return k.waitReady(ctx)
}

// waitReady returns once the daemon answers.
func (k *buildkit) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	for {
		_, _, err := execute(ctx, place{}, k.clientPath, "--addr", k.address(), "debug", "workers")
		if err == nil {
			return nil
		}
		select {
		case cause := <-k.ended:
			k.ended <- cause
			log, _ := os.ReadFile(k.log.Name())
			return fmt.Errorf("buildkitd ended: %w\n%s", cause, log)
		case <-ctx.Done():
			return fmt.Errorf("buildkitd does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// build has no exporter: the result stays in BuildKit's cache, which is the least
// that it can do.
func (k *buildkit) build(ctx context.Context, j job) (usage, error) { return k.run(ctx, j) }

func (k *buildkit) export(ctx context.Context, j job, dest string, archive bool) (usage, error) {
	return k.run(ctx, j, "--output", fmt.Sprintf("type=oci,compression=gzip,dest=%s,tar=%t", dest, archive))
}

func (k *buildkit) run(ctx context.Context, j job, more ...string) (usage, error) {
	args := []string{"--addr", k.address(), "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + j.context, "--local", "dockerfile=" + filepath.Dir(j.dockerfile),
		"--opt", "filename=" + filepath.Base(j.dockerfile)}
	for _, b := range k.bases {
		args = append(args, "--oci-layout", b.name+"="+b.dir, "--opt", "context:"+b.name+"=oci-layout://"+b.name+"@"+b.digest)
	}
	pid := strconv.Itoa(k.daemon.Process.Pid)
	before, err := cpuOf(pid)
	if err != nil {
		return usage{}, err
	}
	resetPeak(pid)
	u, _, err := execute(ctx, place{}, k.clientPath, append(args, more...)...)
	if err != nil {
		return u, err
	}
	after, err := cpuOf(pid)
	if err != nil {
		return u, err
	}
	u.cpu += after - before
	u.peak, err = peakOf(pid)
	return u, err
}

// cpuOf is the processor time of a process and of the children that it waited for.
func cpuOf(pid string) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may have spaces. utime, stime, cutime and cstime are
	// the 12th to 15th fields after it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return 0, fmt.Errorf("/proc/%s/stat: %d fields after the name", pid, len(fields))
	}
	var ticks int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%s/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ, which never changed
}

// peakOf reads VmHWM of a process, in bytes.
func peakOf(pid string) (int64, error) {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%s/status: no VmHWM", pid)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}

// close ends the daemon and discards its store.
func (k *buildkit) close() error {
	if k.daemon == nil {
		return discard(k.dir)
	}
	_ = k.daemon.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-k.ended:
	case <-time.After(daemonPatience):
		_ = k.daemon.Process.Kill()
		<-k.ended
	}
	k.daemon = nil
	return errors.Join(k.log.Close(), discard(k.dir))
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// builder is one tool and its store.
type builder interface {
	name() string
	version(ctx context.Context) (string, error)
	// reset throws the store away and makes a new one in which the bases are, and a
	// first container was run: what comes after pays for neither.
	reset(ctx context.Context, bases ...base) error
	// build builds what a job says, and keeps the result in the store only.
	build(ctx context.Context, j job) (usage, error)
	// export writes an image that was just built, gzip-compressed: an archive, or a
	// directory in OCI layout.
	export(ctx context.Context, j job, dest string, archive bool) (usage, error)
	// close ends what runs and discards the store.
	close() error
}

// job is one build.
type job struct {
	name       string // of the image
	dockerfile string // path of the file; its directory holds nothing else
	context    string // directory
}

// usage is what a command took.
type usage struct {
	wall time.Duration
	cpu  time.Duration // of the tool and all it ran: steadier than wall on a machine with other work
	peak int64         // resident memory of the tool's main process in bytes, at its highest
}

// openBuilders returns the tools to measure: stagecraft, and of the others those
// that are there or were asked for by name.
func openBuilders(ctx context.Context, dir, names string) ([]builder, error) {
	var all []builder
	wanted := func(name string) bool { return names == "" || slices.Contains(strings.Split(names, ","), name) }
	if wanted("stagecraft") {
		b, err := newStagecraft(filepath.Join(dir, "stagecraft"))
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	daemon, client := os.Getenv("BUILDKITD"), os.Getenv("BUILDCTL")
	switch {
	case !wanted("buildkit"):
	case daemon != "" && client != "":
		all = append(all, &buildkit{dir: filepath.Join(dir, "buildkit"), daemonPath: daemon, clientPath: client})
	case names != "":
		return nil, errors.New("buildkit: BUILDKITD and BUILDCTL do not name its binaries")
	}
	if wanted("buildah") {
		path, err := exec.LookPath("buildah")
		switch {
		case err == nil:
			all = append(all, &buildah{dir: filepath.Join(dir, "buildah"), path: path})
		case names != "":
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("-tools %s: no such tool", names)
	}
	return all, nil
}

// warmUp is the build that reset runs: one container on each base.
func warmUp(ctx context.Context, b builder, dir string, bases []base) error {
	j := job{name: "warm", context: filepath.Join(dir, "warm", "context"), dockerfile: filepath.Join(dir, "warm", "Dockerfile")}
	if err := os.MkdirAll(j.context, 0o755); err != nil {
		return err
	}
	for _, base := range bases {
		if err := os.WriteFile(j.dockerfile, []byte("FROM "+base.name+"\nRUN echo warm > /warm\n"), 0o644); err != nil {
			return err
		}
		if _, err := b.build(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// place is where a command runs.
type place struct {
	dir string   // "" is the working directory
	env []string // NAME=VALUE, beside what this process has
}

// execute runs one command of a tool to its end, and returns what it took and what
// it printed to stdout. stderr shows in the error only.
func execute(ctx context.Context, p place, name string, args ...string) (usage, []byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	forgetPeak()
	start := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(start)}
	if err != nil {
		return u, nil, fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = r.Maxrss << 10
	}
	return u, stdout.Bytes(), nil
}

// forgetPeak makes this process small and forget how large it was: the kernel
// counts the memory of the process that starts another as memory of that one.
func forgetPeak() {
	debug.FreeOSMemory()
	resetPeak("self")
}

// resetPeak sets VmHWM of a process to what it uses now. Where the kernel refuses,
// figures of memory are too high, and nothing else is wrong.
func resetPeak(pid string) {
	_ = os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0o644)
}

// lock takes path for this process, until it ends: two runs on one directory would
// remove each other's stores.
func lock(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w; another run is under way", path, err)
	}
	return nil
}

// settle waits until what was written before is on disk, so that a tool does not pay
// for another one's writes.
func settle(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// discard unmounts all at or below dir and moves it away, for removeTree to remove at
// the end of the run. ext4 without a journal does not give out the inode of a removed
// file again for minutes, and looks at all of those for every file it makes: whoever
// builds next would pay for the removal of 20,000 files with seconds.
func discard(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	trash := filepath.Join(filepath.Dir(dir), "discarded")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return err
	}
	away, err := os.MkdirTemp(trash, "")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(away, "store")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeTree unmounts all that is mounted at or below dir, and removes dir.
func removeTree(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// mountsBelow lists mount points at or below dir in the order they were mounted.
func mountsBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			points = append(points, fields[4])
		}
	}
	return points, nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and with what a run was made.
type machine struct {
	date       string
	cpu        string
	memory     int64 // bytes
	kernel     string
	fileSystem string // of the stores
	versions   []string
	loadBefore string
	loadAfter  string
}

func describeMachine(ctx context.Context, dir string, here bool, builders []builder) (*machine, error) {
	m := &machine{date: time.Now().UTC().Format(time.DateOnly), loadBefore: loadAverage()}
	var err error
	if m.cpu, err = field("/proc/cpuinfo", "model name"); err != nil {
		return nil, err
	}
	total, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return nil, err
	}
	kib, err := strconv.ParseInt(strings.TrimSuffix(total, " kB"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("/proc/meminfo: %w", err)
	}
	m.memory = kib << 10
	var names unix.Utsname
	if err := unix.Uname(&names); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	m.kernel = unix.ByteSliceToString(names.Release[:])
	if m.fileSystem, err = fileSystemOf(dir); err != nil {
		return nil, err
	}
	if !here {
		m.fileSystem += ", new, in a file"
	}
	for _, b := range builders {
		version, err := b.version(ctx)
		if err != nil {
			return nil, err
		}
		m.versions = append(m.versions, version)
	}
	return m, nil
}

// lines describe the machine for people.
func (m *machine) lines() []string {
	return []string{
		fmt.Sprintf("%s; %s, %d cores, %.0f GiB; Linux %s; stores on %s; load average %s before, %s after.",
			m.date, m.cpu, runtime.NumCPU(), float64(m.memory)/(1<<30), m.kernel, m.fileSystem, m.loadBefore, m.loadAfter),
		strings.Join(m.versions, "; ") + ".",
	}
}

// field returns the first value of a name in a file of "name: value" lines.
func field(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s: no %s", path, name)
}

// loadAverage is that of the last minute: what else the machine had to do. "?" where
// the kernel does not say.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// fileSystemOf names the type of the file system that dir is on.
func fileSystemOf(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("statfs %s: %w", dir, err)
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	}
	if name, ok := names[s.Type]; ok {
		return name, nil
	}
	return fmt.Sprintf("a file system of type %#x", s.Type), nil
}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// makeWork makes, in the caller's work directory, overlayfs's own one and, if
// the image lacks something to mount on, the stub layer: a lowest layer with
// empty files and directories for that. Both are new with every run: overlayfs
// takes a work directory of a volatile mount only once.
func (s *setup) makeWork(r Rootfs) error {
	var err error
	if s.Work, err = os.MkdirTemp(r.Work, "overlay"); err != nil {
		return err
	}
	s.Lower = append([]string(nil), r.Lower...)
	stub := ""
	for i, m := range s.Mounts {
		if s.insideEarlierMount(i) || !s.lacks(m.Target) {
			continue
		}
		if stub == "" {
			if stub, err = os.MkdirTemp(r.Work, "stub"); err != nil {
				return err
			}
			if err := os.Chmod(stub, 0o755); err != nil {
				return err
			}
		}
		if err := makeStub(stub, m); err != nil {
			return fmt.Errorf("mount point %s: %w", m.Target, err)
		}
	}
	if stub == "" && len(s.Lower) == 0 { // overlayfs wants one
		stub, err = os.MkdirTemp(r.Work, "stub")
	}
	if stub != "" {
		s.Lower = append(s.Lower, stub)
	}
	return err
}

func (s *setup) insideEarlierMount(i int) bool {
	for _, earlier := range s.Mounts[:i] {
		if strings.HasPrefix(s.Mounts[i].Target, strings.TrimSuffix(earlier.Target, "/")+"/") {
			return true
		}
	}
	return false
}

// lacks tells that a stub for target would be of use. It looks at the layers
// one by one and may be wrong where an opaque directory or a link of one hides
// something of another: the target is then made in the root itself, and removed
// after the run (see removeTraces).
func (s *setup) lacks(target string) bool {
	var st unix.Stat_t
	if unix.Lstat(s.Upper+target, &st) == nil {
		return false
	}
	for _, layer := range s.Lower {
		if err := unix.Lstat(layer+target, &st); err != unix.ENOENT {
			return false // there, or hidden by what stands in its way
		}
	}
	return true
}

// makeStub makes what m can be mounted on, and the directories above it.
func makeStub(root string, m mount) error {
	dir, file := m.Target, ""
	if m.File {
		dir, file = path.Split(m.Target)
	}
	at := root
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		// Every user may enter it, whatever the umask is.
		if err := os.Chmod(at, 0o755); err != nil {
			return err
		}
	}
	if file == "" {
		return nil
	}
	at = filepath.Join(at, file)
	return errors.Join(os.WriteFile(at, nil, 0o644), os.Chmod(at, 0o644))
}

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// removeTraces removes the mount targets that had to be made in the image's own
// root, last first, where the process left them as they were: empty. With them
// go the directories above that overlayfs only copied up to hold them.
func (s *setup) removeTraces(made []string) error {
	if len(made) == 0 {
		return nil
	}
	root, err := os.OpenRoot(s.Upper)
	if err != nil {
		return fmt.Errorf("remove mount points: %w", err)
	}
	defer root.Close()
	for i := len(made) - 1; i >= 0; i-- {
		info, err := root.Lstat(made[i])
		if err != nil || !info.IsDir() && !(info.Mode().IsRegular() && info.Size() == 0) {
			continue // not in the upper directory, or in use now
		}
		if err := remove(root, made[i]); err != nil {
			return err
		}
		for dir := path.Dir(made[i]); dir != "."; dir = path.Dir(dir) {
			if !s.isCopy(root, dir) {
				break
			}
			if err := remove(root, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a file or a directory; one that is not empty stays.
func remove(root *os.Root, name string) error {
	err := root.Remove(name)
	if err == nil || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("remove mount point: %w", err)
}

// isCopy tells that the upper directory's dir says nothing that the layers do
// not: it does not hide theirs, and has the owner and mode of theirs. Whether it
// is empty shows when it is removed.
func (s *setup) isCopy(root *os.Root, dir string) bool {
	f, err := root.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.IsDir() {
		return false
	}
	var opaque [1]byte
	if n, err := unix.Fgetxattr(int(f.Fd()), "trusted.overlay.opaque", opaque[:]); err != nil && err != unix.ENODATA || n > 0 {
		return false
	}
	for _, layer := range s.Lower {
		below, err := os.Lstat(filepath.Join(layer, dir))
		if err != nil {
			continue
		}
		upper, lower := info.Sys().(*syscall.Stat_t), below.Sys().(*syscall.Stat_t)
		return upper.Mode == lower.Mode && upper.Uid == lower.Uid && upper.Gid == lower.Gid
	}
	return false
}

package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openReadonly opens a file through a mount of its own, which is attached
// nowhere and read-only.
//
// The sandbox's process begins as the builder's own program. A command that is
// /proc/self/exe, by whatever detour through the image, executes it once more,
// now under the image's control, and its siblings may then open it for writing
// once it has ended: the builder on the host would be overwritten. Through this
// mount nobody can write to it.
func openReadonly(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%s: take a mount: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: make read-only: %w", path, err)
	}
	return f, nil
}

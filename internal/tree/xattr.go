package tree

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// overlayOpaque is the attribute that marks an opaque directory for the overlay
// mounts of this process: in a user namespace the kernel takes the user.*
// variant only. A store belongs to one of the two.
var overlayOpaque = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(b)); err == nil && len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295" {
		return "trusted.overlay.opaque"
	}
	return "user.overlay.opaque"
})

// keepXattr reports whether an extended attribute is part of an image:
// capabilities, ACLs and the user's own. Security labels belong to the host,
// and the overlay's marks are said otherwise.
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// readXattrs returns the attributes of an open file that belong to an image,
// and whether it is marked opaque. fd must not be an O_PATH descriptor. buf is
// scratch space.
func readXattrs(fd int, buf []byte) (xattrs map[string]string, opaque bool, err error) {
	n, err := retry(func() (int, error) { return unix.Flistxattr(fd, buf) })
	if err == unix.ERANGE {
		buf = make([]byte, 1<<16) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(fd, buf)
	}
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, os.NewSyscallError("flistxattr", err)
	}
	for list := buf[:n]; len(list) > 0; {
		end := bytes.IndexByte(list, 0)
		if end < 0 {
			break
		}
		name := string(list[:end])
		list = list[end+1:]
		isOpaque := name == overlayOpaque()
		if !isOpaque && !keepXattr(name) {
			continue
		}
		value, err := getXattr(fd, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, false, os.NewSyscallError("fgetxattr "+name, err)
		}
		if isOpaque {
			opaque = value == "y"
			continue
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[name] = value
	}
	return xattrs, opaque, nil
}

func getXattr(fd int, name string) (string, error) {
	for size := 256; ; size = 1 << 16 { // XATTR_SIZE_MAX
		value := make([]byte, size)
		n, err := unix.Fgetxattr(fd, name, value)
		if err == unix.ERANGE && size < 1<<16 {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(value[:n]), nil
	}
}

// writeXattrs sets attributes on an open file.
func writeXattrs(fd int, xattrs map[string]string) error {
	for name, value := range xattrs {
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}

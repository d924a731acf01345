package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// devices are the ones every container has (OCI runtime spec, "Default
// Devices"), with their numbers (Linux Documentation/admin-guide/devices.txt).
var devices = [...]struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

var devLinks = [...]struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}, {"core", "/proc/kcore"},
}

// fillDev makes devices, links and mount points in the file system dev, which
// is not attached yet: no path of the image is involved.
func fillDev(dev int) error {
	for _, d := range devices {
		if err := unix.Mknodat(dev, d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", d.name, err)
		}
	}
	for _, l := range devLinks {
		if err := unix.Symlinkat(l.target, dev, l.name); err != nil {
			return fmt.Errorf("make %s: %w", l.name, err)
		}
	}
	for _, name := range [...]string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, name, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	return nil
}

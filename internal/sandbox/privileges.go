package sandbox

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Credentials are set by the plain system calls, on this thread alone: the
// others of this process end when it becomes the command.

// becomeUser narrows the bounding set, changes the user, and leaves root with
// the bounding set's capabilities and anybody else with none, as Docker does.
func becomeUser(p *specs.Process) error {
	bounding, err := capabilityBits(p.Capabilities)
	if err != nil {
		return err
	}
	last, err := capability.LastCap()
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for c := range last + 1 {
		if bounding&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %s: %w", c, err)
		}
	}
	groups := make([]uint32, len(p.User.AdditionalGids))
	copy(groups, p.User.AdditionalGids)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	gid, uid := uintptr(p.User.GID), uintptr(p.User.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set group %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set user %d: %w", uid, errno)
	}
	if uid != 0 {
		return nil // the kernel took them all with the change of the user
	}
	return setCapabilities(bounding)
}

// capabilityBits is the set that the process may have at most.
func capabilityBits(c *specs.LinuxCapabilities) (uint64, error) {
	var bits uint64
	if c == nil {
		return 0, nil
	}
	for _, name := range c.Bounding {
		found := false
		for _, known := range capability.ListKnown() {
			if strings.EqualFold("CAP_"+known.String(), name) {
				bits |= 1 << known
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("capability %s: not known", name)
		}
	}
	return bits, nil
}

// setCapabilities leaves this thread with those of the bits that it has, as
// permitted and effective, and none that a program could inherit.
func setCapabilities(bits uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		set := data[i].Permitted & uint32(bits>>(32*i))
		data[i] = unix.CapUserData{Permitted: set, Effective: set}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// loadFilter installs a compiled seccomp program for this thread.
func loadFilter(filter []byte) error {
	if len(filter) == 0 {
		return nil
	}
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(filter)%size != 0 {
		return fmt.Errorf("the program has %d bytes", len(filter))
	}
	program := unix.SockFprog{
		Len:    uint16(len(filter) / size),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(filter))),
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// raiseLoopback brings up lo, which a new network namespace has down.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

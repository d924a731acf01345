package sandbox

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilitySets are the sets of capabilities(7), one bit for each capability.
type capabilitySets struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

func newCapabilitySets(c *specs.LinuxCapabilities) (capabilitySets, error) {
	var sets capabilitySets
	if c == nil {
		return sets, nil
	}
	numbers := map[string]capability.Cap{}
	for _, known := range capability.ListKnown() {
		numbers["CAP_"+strings.ToUpper(known.String())] = known
	}
	for _, set := range []struct {
		names []string
		bits  *uint64
	}{
		{c.Bounding, &sets.Bounding}, {c.Effective, &sets.Effective}, {c.Permitted, &sets.Permitted},
		{c.Inheritable, &sets.Inheritable}, {c.Ambient, &sets.Ambient},
	} {
		for _, name := range set.names {
			number, ok := numbers[name]
			if !ok {
				return sets, fmt.Errorf("capability %s: not known", name)
			}
			*set.bits |= 1 << number
		}
	}
	return sets, nil
}

// dropPrivileges becomes the user with the capabilities and filters of the
// setup. Everything is set by plain system calls, for this thread alone: the
// others of this process end when it becomes the command.
func (s *setup) dropPrivileges() error {
	if err := dropBounding(s.Capabilities.Bounding); err != nil {
		return err
	}
	// Filters need a privilege or no_new_privs. With the first they go in while
	// it is still there, and have to let the calls below through, as a filter
	// must for any process that changes its user; with the second they go in last.
	if !s.NoNewPrivileges {
		if err := s.loadFilters(); err != nil {
			return err
		}
	}
	if err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setUser(s.User); err != nil {
		return err
	}
	if err := s.Capabilities.apply(); err != nil {
		return err
	}
	if !s.NoNewPrivileges {
		return nil
	}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return s.loadFilters()
}

func prctl(option int, value uintptr) error {
	return unix.Prctl(option, value, 0, 0, 0)
}

func dropBounding(keep uint64) error {
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			return nil // beyond the last one that the kernel has
		}
		if err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
		if has == 0 || keep&(1<<c) != 0 {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, c); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

func setUser(u specs.User) error {
	groups := u.AdditionalGids
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set group %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set user %d: %w", uid, errno)
	}
	return nil
}

// apply sets this thread's capabilities, as far as it has them. What execve
// leaves of them is the kernel's rule: root gets the bounding set, anybody else
// the ambient one.
func (c capabilitySets) apply() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		shift := 32 * i
		permitted := data[i].Permitted & uint32(c.Permitted>>shift)
		data[i] = unix.CapUserData{
			Permitted:   permitted,
			Effective:   permitted & uint32(c.Effective>>shift),
			Inheritable: permitted & uint32(c.Inheritable>>shift),
		}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	for n := range uintptr(64) {
		if c.Ambient&(1<<n) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0); err != nil {
			return fmt.Errorf("ambient capability %d: %w", n, err)
		}
	}
	return nil
}

// loadFilters installs the seccomp programs for this thread.
func (s *setup) loadFilters() error {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	for _, filter := range s.Filters {
		if len(filter) == 0 || len(filter)%size != 0 {
			return fmt.Errorf("seccomp: a program of %d bytes", len(filter))
		}
		program := unix.SockFprog{
			Len:    uint16(len(filter) / size),
			Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(filter))),
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
			return fmt.Errorf("seccomp: %w", errno)
		}
	}
	return nil
}

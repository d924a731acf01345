package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setup is what the inner half is told, as JSON: everything that can be decided
// outside is, so that little is left to do in there.
type setup struct {
	Lower            []string // topmost first, the stub layer last
	Upper, Work      string   // the directories of overlayfs
	ReadOnly         bool
	Mounts           []mount
	Masked, Readonly []string // paths
	Hostname         string
	NewNetwork       bool
	Args, Env        []string
	Cwd              string
	User             specs.User
	Rlimits          []rlimit
	Capabilities     capabilitySets
	NoNewPrivileges  bool
	Filters          [][]byte // seccomp programs, each an array of struct sock_filter

	cloneFlags uintptr // the new namespaces
}

type rlimit struct {
	Name     string // as in the spec
	Resource int
	Soft     uint64
	Hard     uint64
}

// newSetup checks what the container asks for. What it asks for and the driver
// does not know is an error, never left out.
func (n *Native) newSetup(c *Container) (*setup, error) {
	if c.Spec == nil || c.Spec.Process == nil || len(c.Spec.Process.Args) == 0 {
		return nil, errors.New("no command to run")
	}
	if !filepath.IsAbs(c.Rootfs.Upper) || !filepath.IsAbs(c.Rootfs.Work) {
		return nil, errors.New("root: upper and work directories have to be absolute paths")
	}
	p := c.Spec.Process
	s := &setup{
		Upper: c.Rootfs.Upper, ReadOnly: c.Rootfs.ReadOnly, Hostname: c.Spec.Hostname,
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, User: p.User, NoNewPrivileges: p.NoNewPrivileges,
		cloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
	}
	var err error
	if s.Capabilities, err = newCapabilitySets(p.Capabilities); err != nil {
		return nil, err
	}
	if s.Rlimits, err = newRlimits(p.Rlimits); err != nil {
		return nil, err
	}
	for _, m := range c.Spec.Mounts {
		planned, err := newMount(m)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		s.Mounts = append(s.Mounts, planned)
	}
	if linux := c.Spec.Linux; linux != nil {
		s.Masked, s.Readonly = linux.MaskedPaths, linux.ReadonlyPaths
		if err := s.addNamespaces(linux.Namespaces); err != nil {
			return nil, err
		}
		if linux.Seccomp != nil {
			filter, err := n.filter(linux.Seccomp)
			if err != nil {
				return nil, err
			}
			s.Filters = append(s.Filters, filter)
		}
	}
	return s, s.makeWork(c.Rootfs)
}

func (s *setup) addNamespaces(namespaces []specs.LinuxNamespace) error {
	for _, ns := range namespaces {
		if ns.Path != "" {
			return fmt.Errorf("%s namespace %s: joining one is not supported", ns.Type, ns.Path)
		}
		switch ns.Type {
		case specs.NetworkNamespace:
			s.NewNetwork = true
			s.cloneFlags |= unix.CLONE_NEWNET
		case specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace:
		default:
			return fmt.Errorf("%s namespace: not supported", ns.Type)
		}
	}
	return nil
}

// filter returns the compiled profile; each profile is compiled once.
func (n *Native) filter(profile *specs.LinuxSeccomp) ([]byte, error) {
	if f, ok := n.filters.Load(profile); ok {
		return f.([]byte), nil
	}
	program, err := compileSeccomp(profile)
	if err != nil {
		return nil, err
	}
	f := filterBytes(program)
	n.filters.Store(profile, f)
	return f, nil
}

// filterBytes is the program as the kernel reads it.
func filterBytes(program []unix.SockFilter) []byte {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(program))), len(program)*size)
}

var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
	"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func newRlimits(limits []specs.POSIXRlimit) ([]rlimit, error) {
	var planned []rlimit
	for _, l := range limits {
		resource, ok := resources[l.Type]
		if !ok {
			return nil, fmt.Errorf("limit %s: no such limit", l.Type)
		}
		planned = append(planned, rlimit{Name: l.Type, Resource: resource, Soft: l.Soft, Hard: l.Hard})
	}
	return planned, nil
}

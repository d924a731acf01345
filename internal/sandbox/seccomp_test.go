package sandbox

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is a system call as a filter sees it.
type call struct {
	audit, number uint32
	args          [6]uint64
}

// run interprets a compiled program with an implementation that is not ours.
func (c call) run(t testing.TB, vm *bpf.VM) uint32 {
	t.Helper()
	// bpf.VM loads words in network order; the words themselves lie where a
	// little-endian kernel has them.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[dataNumber:], c.number)
	binary.BigEndian.PutUint32(data[dataArch:], c.audit)
	for i, a := range c.args {
		binary.BigEndian.PutUint32(data[dataArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[dataArgs+8*i+4:], uint32(a>>32))
	}
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func newVM(t testing.TB, profile *specs.LinuxSeccomp) *bpf.VM {
	t.Helper()
	program, err := compileSeccomp(profile)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]bpf.RawInstruction, len(program))
	for i, in := range program {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has unknown instructions")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(program))
	return vm
}

// verdict is the meaning of a profile, said without any program.
func (c call) verdict(t testing.TB, profile *specs.LinuxSeccomp) uint32 {
	table := map[uint32]string{unix.AUDIT_ARCH_X86_64: "x86_64", unix.AUDIT_ARCH_I386: "i386"}[c.audit]
	name := map[string]specs.Arch{"x86_64": specs.ArchX86_64, "i386": specs.ArchX86}[table]
	if table == "x86_64" && c.number >= 0x40000000 {
		table, name = "x32", specs.ArchX32
	}
	if table == "" || name != specs.ArchX86_64 && !slices.Contains(profile.Architectures, name) {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	info, err := arch.GetInfo(table)
	if err != nil {
		t.Fatal(err)
	}
	numbers := numbersOf(info)
	last, named := uint32(0), false
	for _, entry := range profile.Syscalls {
		for _, name := range entry.Names {
			n, ok := numbers[name]
			if !ok {
				continue
			}
			last, named = max(last, uint32(n|info.SeccompMask)), true
		}
	}
	for _, entry := range profile.Syscalls {
		for _, name := range entry.Names {
			if n, ok := numbers[name]; ok && uint32(n|info.SeccompMask) == c.number && c.matches(entry.Args) {
				return actionValue(entry.Action, entry.ErrnoRet)
			}
		}
	}
	fallback := actionValue(profile.DefaultAction, profile.DefaultErrnoRet)
	if named && c.number > last && fallback == actionValue(specs.ActErrno, nil) {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return fallback
}

func actionValue(a specs.LinuxSeccompAction, errno *uint) uint32 {
	switch {
	case a == specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW
	case a == specs.ActErrno && errno != nil:
		return unix.SECCOMP_RET_ERRNO | uint32(*errno)
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
}

func (c call) matches(args []specs.LinuxSeccompArg) bool {
	holds := func(a specs.LinuxSeccompArg) bool {
		v := c.args[a.Index]
		switch a.Op {
		case specs.OpEqualTo:
			return v == a.Value
		case specs.OpNotEqual:
			return v != a.Value
		case specs.OpGreaterThan:
			return v > a.Value
		case specs.OpGreaterEqual:
			return v >= a.Value
		case specs.OpLessThan:
			return v < a.Value
		case specs.OpLessEqual:
			return v <= a.Value
		}
		return v&a.Value == a.ValueTwo
	}
	seen := map[uint]bool{}
	for _, a := range args {
		if seen[a.Index] { // alternatives
			return slices.ContainsFunc(args, holds)
		}
		seen[a.Index] = true
	}
	return !slices.ContainsFunc(args, func(a specs.LinuxSeccompArg) bool { return !holds(a) })
}

// Every call of every architecture, with arguments at the edges of what the
// default profile looks at, gets what the profile says.
func TestDefaultProfileMeansTheSameCompiled(t *testing.T) {
	spec, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	profile := spec.Linux.Seccomp
	vm := newVM(t, profile)
	values := []uint64{0, 1, 2, 8, 9, 15, 16, 38, 40, 45, 46, 154, 158, 161, 0x20000, 0x20008, 0x10000000, 0x7e020000, 0x04000000, 0xffffffff, 1 << 32, 1<<32 + 8, ^uint64(0)}
	looksAtArguments := []uint32{
		unix.SYS_SOCKET, unix.SYS_CLONE, unix.SYS_PERSONALITY,
		120, 136, 359, // the same by i386
	}
	for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64} {
		for _, base := range []uint32{0, 0x40000000} {
			for number := range uint32(600) {
				values := values
				if !slices.Contains(looksAtArguments, number) {
					values = values[:1]
				}
				for _, v := range values {
					c := call{audit: audit, number: base + number, args: [6]uint64{v, v, v, v, v, v}}
					if got, want := c.run(t, vm), c.verdict(t, profile); got != want {
						t.Fatalf("arch %#x call %#x argument %#x: %#x, want %#x", audit, c.number, v, got, want)
					}
				}
			}
		}
	}
}

// A few verdicts by name, so that the two above cannot be wrong together.
func TestDefaultProfileVerdicts(t *testing.T) {
	spec, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	vm := newVM(t, spec.Linux.Seccomp)
	const (
		allow = uint32(unix.SECCOMP_RET_ALLOW)
		eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		nosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		kill  = uint32(unix.SECCOMP_RET_KILL_PROCESS)
	)
	for name, c := range map[string]struct {
		call call
		want uint32
	}{
		"openat":                   {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_OPENAT}, allow},
		"openat by i386":           {call{audit: unix.AUDIT_ARCH_I386, number: 295}, allow},
		"openat by x32":            {call{audit: unix.AUDIT_ARCH_X86_64, number: x32Bit | unix.SYS_OPENAT}, allow},
		"openat of a strange arch": {call{audit: unix.AUDIT_ARCH_S390X, number: 288}, kill},
		"mount":                    {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_MOUNT}, eperm},
		"mount by i386":            {call{audit: unix.AUDIT_ARCH_I386, number: 21}, eperm},
		"mount by x32":             {call{audit: unix.AUDIT_ARCH_X86_64, number: x32Bit | unix.SYS_MOUNT}, eperm},
		"keyctl":                   {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_KEYCTL}, eperm},
		"clone":                    {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_CLONE, args: [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD}}, allow},
		"clone of a user ns":       {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_CLONE, args: [6]uint64{unix.CLONE_NEWUSER}}, eperm},
		"clone3":                   {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_CLONE3}, nosys},
		"a call of the future":     {call{audit: unix.AUDIT_ARCH_X86_64, number: 5000}, nosys},
		"socket inet":              {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_SOCKET, args: [6]uint64{unix.AF_INET}}, allow},
		"socket vsock":             {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_SOCKET, args: [6]uint64{unix.AF_VSOCK}}, eperm},
		// An argument must never be taken for the number of a call.
		"personality(chroot)": {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_PERSONALITY, args: [6]uint64{unix.SYS_CHROOT}}, eperm},
		"socket(chroot)":      {call{audit: unix.AUDIT_ARCH_X86_64, number: unix.SYS_SOCKET, args: [6]uint64{unix.SYS_CHROOT}}, eperm},
	} {
		if got := c.call.run(t, vm); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

// Random profiles over a few calls: any mix of conditions.
func TestRandomProfilesMeanTheSameCompiled(t *testing.T) {
	const seed = 2
	r := rand.New(rand.NewPCG(seed, seed))
	names := []string{"read", "write", "open", "close", "socket", "clone", "rt_sigaction", "arm_fadvise64_64"}
	numbers := []uint32{0, 1, 2, 3, 4, 5, 6, 13, 41, 56, 67, 120, 174, 359, 700}
	values := []uint64{0, 1, 2, 3, 4, 1 << 31, 1 << 32, 1<<32 + 1, 1<<32 + 2, 1 << 33, ^uint64(0)}
	pick := func(v []uint64) uint64 { return v[r.IntN(len(v))] }
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual}
	for range 100 {
		profile := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		for _, a := range []specs.Arch{specs.ArchX86, specs.ArchX32} {
			if r.IntN(2) == 0 {
				profile.Architectures = append(profile.Architectures, a)
			}
		}
		for range r.IntN(8) {
			errno := uint(r.IntN(30))
			entry := specs.LinuxSyscall{Action: specs.ActAllow, Names: []string{names[r.IntN(len(names))], names[r.IntN(len(names))]}}
			if r.IntN(3) == 0 {
				entry.Action, entry.ErrnoRet = specs.ActErrno, &errno
			}
			for range r.IntN(4) {
				entry.Args = append(entry.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(3)), Op: ops[r.IntN(len(ops))], Value: pick(values), ValueTwo: pick(values)})
			}
			profile.Syscalls = append(profile.Syscalls, entry)
		}
		vm := newVM(t, profile)
		for range 150 {
			c := call{audit: unix.AUDIT_ARCH_X86_64, number: numbers[r.IntN(len(numbers))], args: [6]uint64{pick(values), pick(values), pick(values)}}
			switch r.IntN(4) {
			case 0:
				c.audit = unix.AUDIT_ARCH_I386
			case 1:
				c.number |= 0x40000000
			}
			if got, want := c.run(t, vm), c.verdict(t, profile); got != want {
				t.Fatalf("seed %d: call %+v: %#x, want %#x\n%+v", seed, c, got, want, profile)
			}
		}
	}
}

func TestProfilesThatCannotBeExpressed(t *testing.T) {
	bad := uint(5000)
	for name, profile := range map[string]*specs.LinuxSeccomp{
		"action":     {DefaultAction: specs.ActNotify},
		"errno":      {DefaultAction: specs.ActErrno, DefaultErrnoRet: &bad},
		"comparison": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "?"}}}}},
		"argument":   {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Index: 6}}}}},
	} {
		if _, err := compileSeccomp(profile); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

func BenchmarkCompileDefaultProfile(b *testing.B) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := compileSeccomp(profile); err != nil {
			b.Fatal(err)
		}
	}
}

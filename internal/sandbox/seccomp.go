package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	seccompbpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// compileSeccomp turns a profile into the bytes of a BPF program, an array of
// struct sock_filter. Calls of other architectures than this program's get the
// default action, so 32-bit programs do not run; names that this architecture
// does not have are left out, as libseccomp does.
func compileSeccomp(profile *specs.LinuxSeccomp) ([]byte, error) {
	if profile == nil {
		return nil, nil
	}
	if profile.DefaultAction != specs.ActErrno {
		return nil, fmt.Errorf("seccomp: default action %s is not known", profile.DefaultAction)
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	policy := seccompbpf.Policy{DefaultAction: seccompbpf.ActionErrno}
	for _, call := range profile.Syscalls {
		group, err := seccompGroup(call, info)
		if err != nil {
			return nil, fmt.Errorf("seccomp: %s: %w", strings.Join(call.Names, " "), err)
		}
		policy.Syscalls = append(policy.Syscalls, group)
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	var b bytes.Buffer
	for _, in := range raw {
		if err := binary.Write(&b, binary.NativeEndian, unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}); err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
	}
	return b.Bytes(), nil
}

// seccompOperations maps libseccomp's comparisons. "Masked equal" is there for
// a right side of 0 only, which is what profiles use: none of the bits is set.
var seccompOperations = map[specs.LinuxSeccompOperator]seccompbpf.Operation{
	specs.OpEqualTo:      seccompbpf.Equal,
	specs.OpNotEqual:     seccompbpf.NotEqual,
	specs.OpLessThan:     seccompbpf.LessThan,
	specs.OpLessEqual:    seccompbpf.LessOrEqual,
	specs.OpGreaterThan:  seccompbpf.GreaterThan,
	specs.OpGreaterEqual: seccompbpf.GreaterOrEqual,
	specs.OpMaskedEqual:  seccompbpf.BitsNotSet,
}

func seccompGroup(call specs.LinuxSyscall, info *arch.Info) (seccompbpf.SyscallGroup, error) {
	var group seccompbpf.SyscallGroup
	switch call.Action {
	case specs.ActAllow:
		group.Action = seccompbpf.ActionAllow
	case specs.ActErrno:
		errno := uint(unix.EPERM)
		if call.ErrnoRet != nil {
			errno = *call.ErrnoRet
		}
		group.Action = seccompbpf.Action(unix.SECCOMP_RET_ERRNO | uint32(errno)&unix.SECCOMP_RET_DATA)
	default:
		return group, fmt.Errorf("action %s is not known", call.Action)
	}
	var conditions seccompbpf.ArgumentConditions
	for _, arg := range call.Args {
		operation, ok := seccompOperations[arg.Op]
		if !ok || arg.Op == specs.OpMaskedEqual && arg.ValueTwo != 0 {
			return group, fmt.Errorf("condition %s %d is not known", arg.Op, arg.ValueTwo)
		}
		conditions = append(conditions, seccompbpf.Condition{
			Argument: uint32(arg.Index), Operation: operation, Value: arg.Value,
		})
	}
	seen := map[string]bool{}
	for _, name := range call.Names {
		if _, known := info.SyscallNames[name]; !known || seen[name] {
			continue
		}
		seen[name] = true
		if len(conditions) == 0 {
			group.Names = append(group.Names, name)
		} else {
			group.NamesWithCondtions = append(group.NamesWithCondtions,
				seccompbpf.NameWithConditions{Name: name, Conditions: conditions})
		}
	}
	return group, nil
}

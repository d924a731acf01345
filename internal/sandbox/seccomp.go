package sandbox

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A profile is compiled by the builder, once, and the sandbox's process only
// loads the result. The program tells architectures apart first, then finds the
// system call by binary search, and only then looks at arguments.

// seccompRule is what one entry of a profile says of one call.
type seccompRule struct {
	args   []specs.LinuxSeccompArg // all must hold
	action uint32
}

// compileSeccomp makes the program of a profile; nil for no profile. Rules of a
// call are tried in the profile's order, the first that matches decides. Three
// habits are runc's and libseccomp's, so that profiles mean the same here:
// names that an architecture lacks are skipped; several conditions on one
// argument are alternatives; and a call that is newer than all that the profile
// names gets ENOSYS, not EPERM, so that libraries fall back to older ones.
// Calls of an architecture that the profile does not list kill the process.
func compileSeccomp(profile *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	if profile == nil {
		return nil, nil
	}
	fallback, err := seccompAction(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("seccomp: default action: %w", err)
	}
	table := seccompTables[runtime.GOARCH]
	numbers, err := table.callNumbers()
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	known := table.arches
	searches := map[uint32]bpfProgram{}
	for i, a := range known {
		if a != known[0] && !slices.Contains(profile.Architectures, a.name) {
			continue
		}
		calls, err := seccompCalls(profile, numbers[i])
		if err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
		search := searchCalls(calls, fallback)
		if a.name == specs.ArchX32 {
			// known lists x86-64, which it shares the value with, before it.
			search = ifAtLeast(x32Bit, search, searches[a.audit])
		} else if a.name == specs.ArchX86_64 && !slices.Contains(profile.Architectures, specs.ArchX32) {
			search = ifAtLeast(x32Bit, ret(unix.SECCOMP_RET_KILL_PROCESS), search)
		}
		searches[a.audit] = search
	}
	program := ret(unix.SECCOMP_RET_KILL_PROCESS)
	for _, a := range known {
		if search, ok := searches[a.audit]; ok {
			program = ifEqual(a.audit, join(load(dataNumber), search), program)
			delete(searches, a.audit)
		}
	}
	program = join(load(dataArch), program)
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp: the program has %d instructions, the kernel takes %d", len(program), unix.BPF_MAXINSNS)
	}
	return program, nil
}

// seccompCalls collects the rules by call number.
func seccompCalls(profile *specs.LinuxSeccomp, numbers map[string]uint32) (map[uint32][]seccompRule, error) {
	calls := map[uint32][]seccompRule{}
	for _, entry := range profile.Syscalls {
		action, err := seccompAction(entry.Action, entry.ErrnoRet)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", entry.Names, err)
		}
		alternatives, err := argumentSets(entry.Args)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", entry.Names, err)
		}
		for _, name := range entry.Names {
			n, ok := numbers[name]
			if !ok {
				continue
			}
			for _, args := range alternatives {
				calls[n] = append(calls[n], seccompRule{args, action})
			}
		}
	}
	return calls, nil
}

// argumentSets are the alternatives that an entry's conditions stand for.
func argumentSets(args []specs.LinuxSeccompArg) ([][]specs.LinuxSeccompArg, error) {
	var count [6]int
	repeated := false
	for _, a := range args {
		if a.Index >= uint(len(count)) {
			return nil, fmt.Errorf("argument %d: calls have %d", a.Index, len(count))
		}
		if _, err := condition(a); err != nil {
			return nil, err
		}
		count[a.Index]++
		repeated = repeated || count[a.Index] > 1
	}
	if !repeated {
		return [][]specs.LinuxSeccompArg{args}, nil
	}
	var sets [][]specs.LinuxSeccompArg
	for i := range args {
		sets = append(sets, args[i:i+1])
	}
	return sets, nil
}

// seccompAction is the value that a program returns for an action.
func seccompAction(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActErrno:
		value := uint(unix.EPERM)
		if errno != nil {
			value = *errno
		}
		if value > 4095 { // MAX_ERRNO of the kernel
			return 0, fmt.Errorf("errno %d: not an error number", value)
		}
		return unix.SECCOMP_RET_ERRNO | uint32(value), nil
	}
	return 0, fmt.Errorf("action %s: not supported", action)
}

// searchCalls looks the number in the accumulator up by halving.
func searchCalls(calls map[uint32][]seccompRule, fallback uint32) bpfProgram {
	numbers := make([]uint32, 0, len(calls))
	for n := range calls {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)

	// ranges cover all numbers: each begins where the one before ends.
	type span struct {
		from uint32
		code bpfProgram
	}
	ranges := []span{{0, ret(fallback)}}
	add := func(from uint32, code bpfProgram) {
		if !slices.Equal(ranges[len(ranges)-1].code, code) {
			ranges = append(ranges, span{from, code})
		}
	}
	for i, n := range numbers {
		if i > 0 && numbers[i-1]+1 < n {
			add(numbers[i-1]+1, ret(fallback))
		}
		add(n, ruleCode(calls[n], fallback))
	}
	if len(numbers) > 0 {
		newer := fallback
		if fallback == unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
			newer = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		}
		add(numbers[len(numbers)-1]+1, ret(newer))
	}
	var search func([]span) bpfProgram
	search = func(s []span) bpfProgram {
		if len(s) == 1 {
			return s[0].code
		}
		mid := len(s) / 2
		return ifAtLeast(s[mid].from, search(s[mid:]), search(s[:mid]))
	}
	return search(ranges)
}

// ruleCode tries the rules of one call.
func ruleCode(rules []seccompRule, fallback uint32) bpfProgram {
	code := ret(fallback)
	for _, r := range slices.Backward(rules) {
		test := ret(r.action)
		for _, a := range slices.Backward(r.args) {
			c, err := condition(a)
			if err != nil {
				return ret(unix.SECCOMP_RET_KILL_PROCESS) // argumentSets saw to it that there is none
			}
			test = c(test)
		}
		if len(r.args) == 0 {
			code = test // what follows is never reached
			continue
		}
		code = orElse(test, code)
	}
	return code
}

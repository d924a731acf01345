package sandbox

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bpfProgram is classic BPF code over struct seccomp_data. All but a piece that
// [orElse] completes end in a return on every path, so pieces nest without
// jumps back and the accumulator never has to survive one.
type bpfProgram []unix.SockFilter

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16 // six of 8 bytes, the low half first
)

// miss is a jump to what [orElse] puts behind a piece. No real jump can have
// this code: it uses the one operation bit that classic BPF leaves free.
const miss = unix.BPF_JMP | unix.BPF_JA | unix.BPF_X

func load(offset uint32) bpfProgram {
	return bpfProgram{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}}
}

func ret(value uint32) bpfProgram {
	return bpfProgram{{Code: unix.BPF_RET | unix.BPF_K, K: value}}
}

func join(parts ...bpfProgram) bpfProgram {
	var p bpfProgram
	for _, part := range parts {
		p = append(p, part...)
	}
	return p
}

func ifEqual(value uint32, then, otherwise bpfProgram) bpfProgram {
	return branch(unix.BPF_JEQ, value, then, otherwise)
}

func ifAtLeast(value uint32, then, otherwise bpfProgram) bpfProgram {
	return branch(unix.BPF_JGE, value, then, otherwise)
}

func ifAbove(value uint32, then, otherwise bpfProgram) bpfProgram {
	return branch(unix.BPF_JGT, value, then, otherwise)
}

// branch compares the accumulator. A conditional jump reaches 255 instructions;
// beyond that an unconditional one carries it.
func branch(compare uint16, value uint32, then, otherwise bpfProgram) bpfProgram {
	test := unix.SockFilter{Code: unix.BPF_JMP | compare | unix.BPF_K, K: value}
	if len(otherwise) <= 255 {
		test.Jt = uint8(len(otherwise))
		return join(bpfProgram{test}, otherwise, then)
	}
	test.Jf = 1
	far := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(otherwise))}
	return join(bpfProgram{test, far}, otherwise, then)
}

// missed is the piece that leads to what orElse puts behind.
func missed() bpfProgram { return bpfProgram{{Code: miss}} }

// orElse puts code where the misses of test lead to.
func orElse(test, code bpfProgram) bpfProgram {
	p := join(test, code)
	for i := range test {
		if p[i].Code == miss {
			p[i] = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(test) - i - 1)}
		}
	}
	return p
}

// condition makes the test of an argument: given what to do when it holds, the
// code that does it, and misses otherwise. Arguments have 64 bits, the
// accumulator 32: the high halves decide unless they are equal.
func condition(a specs.LinuxSeccompArg) (func(then bpfProgram) bpfProgram, error) {
	low, high := uint32(a.Value), uint32(a.Value>>32)
	loadLow, loadHigh := load(dataArgs+8*uint32(a.Index)), load(dataArgs+8*uint32(a.Index)+4)
	// order compares halves: above and below say what follows where the high
	// halves differ, lowTest what to do with the low ones.
	order := func(above, below bpfProgram, lowTest bpfProgram) bpfProgram {
		return join(loadHigh, ifAbove(high, above, ifEqual(high, join(loadLow, lowTest), below)))
	}
	switch a.Op {
	case specs.OpEqualTo:
		return func(then bpfProgram) bpfProgram {
			return join(loadHigh, ifEqual(high, join(loadLow, ifEqual(low, then, missed())), missed()))
		}, nil
	case specs.OpNotEqual:
		return func(then bpfProgram) bpfProgram {
			return join(loadHigh, ifEqual(high, join(loadLow, ifEqual(low, missed(), then)), then))
		}, nil
	case specs.OpGreaterThan:
		return func(then bpfProgram) bpfProgram { return order(then, missed(), ifAbove(low, then, missed())) }, nil
	case specs.OpGreaterEqual:
		return func(then bpfProgram) bpfProgram { return order(then, missed(), ifAtLeast(low, then, missed())) }, nil
	case specs.OpLessThan:
		return func(then bpfProgram) bpfProgram { return order(missed(), then, ifAtLeast(low, missed(), then)) }, nil
	case specs.OpLessEqual:
		return func(then bpfProgram) bpfProgram { return order(missed(), then, ifAbove(low, missed(), then)) }, nil
	case specs.OpMaskedEqual:
		and := func(mask uint32) bpfProgram {
			return bpfProgram{{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}}
		}
		return func(then bpfProgram) bpfProgram {
			lows := join(loadLow, and(low), ifEqual(uint32(a.ValueTwo), then, missed()))
			return join(loadHigh, and(high), ifEqual(uint32(a.ValueTwo>>32), lows, missed()))
		}, nil
	}
	return nil, fmt.Errorf("argument %d: comparison %s: not supported", a.Index, a.Op)
}

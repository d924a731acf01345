package sandbox

import (
	_ "embed"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The numbers of system calls are text that is read when a profile is compiled,
// not tables that every start of the program would build: the sandbox's process
// is such a start. A line is a name and its number in each column of the table's
// architectures, "-" where it has none. TestCallNumbers writes and checks the
// files against a library's tables.
var (
	//go:embed calls_amd64.txt
	callsAMD64 string
	//go:embed calls_arm64.txt
	callsARM64 string
)

// seccompArch is an architecture that programs of a profile tell apart.
type seccompArch struct {
	name  specs.Arch
	audit uint32 // the kernel's value
	base  uint32 // added to the numbers of the table
}

// seccompTable has what a builder of one GOARCH can run, its own architecture
// first. All are little-endian, which bpf.go relies on.
type seccompTable struct {
	text   string
	arches []seccompArch // the columns of text
}

var seccompTables = map[string]seccompTable{
	"amd64": {callsAMD64, []seccompArch{
		{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, 0},
		{specs.ArchX32, unix.AUDIT_ARCH_X86_64, x32Bit},
		{specs.ArchX86, unix.AUDIT_ARCH_I386, 0},
	}},
	"arm64": {callsARM64, []seccompArch{
		{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, 0},
		{specs.ArchARM, unix.AUDIT_ARCH_ARM, 0},
	}},
}

// x32Bit marks the calls of the x32 ABI, which shares its architecture value
// with x86-64.
const x32Bit = 0x40000000

// callNumbers are the numbers by name, one map for each architecture.
func (t seccompTable) callNumbers() ([]map[string]uint32, error) {
	if t.text == "" {
		return nil, fmt.Errorf("no system call numbers for %s", runtime.GOARCH)
	}
	numbers := make([]map[string]uint32, len(t.arches))
	for i := range numbers {
		numbers[i] = make(map[string]uint32, 512)
	}
	for line := range strings.Lines(t.text) {
		fields := strings.Fields(line)
		if len(fields) != len(t.arches)+1 {
			return nil, fmt.Errorf("system call numbers: line %q", line)
		}
		for i, field := range fields[1:] {
			if field == "-" {
				continue
			}
			n, err := strconv.ParseUint(field, 10, 24) // ARM has some from 0xf0000
			if err != nil {
				return nil, fmt.Errorf("system call numbers: %w", err)
			}
			numbers[i][fields[0]] = uint32(n) + t.arches[i].base
		}
	}
	return numbers, nil
}

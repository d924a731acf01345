package sandbox

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// numbersOf are the numbers of an architecture's calls by name. Where x32 has a
// call of its own beside that of x86-64, the own one has the higher number, from
// 512 on, and is the one that works.
func numbersOf(info *arch.Info) map[string]int {
	numbers := map[string]int{}
	for n, name := range info.SyscallNumbers {
		numbers[name] = max(numbers[name], n)
	}
	return numbers
}

// The files of call numbers are those of the library's tables; -update writes
// them anew.
func TestCallNumbers(t *testing.T) {
	for file, infos := range map[string][]*arch.Info{
		"calls_amd64.txt": {arch.X86_64, arch.X32, arch.I386},
		"calls_arm64.txt": {arch.AARCH64, arch.ARM},
	} {
		lines := map[string]string{}
		var columns []map[string]int
		for _, info := range infos {
			columns = append(columns, numbersOf(info))
		}
		for _, names := range columns {
			for name := range names {
				line := name
				for _, column := range columns {
					if n, ok := column[name]; ok {
						line += fmt.Sprintf(" %d", n)
					} else {
						line += " -"
					}
				}
				lines[name] = line + "\n"
			}
		}
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(lines)) {
			text.WriteString(lines[name])
		}
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(text.String(), string(got)); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
	for goarch, table := range seccompTables {
		if _, err := table.callNumbers(); err != nil {
			t.Errorf("%s: %v", goarch, err)
		}
	}
}

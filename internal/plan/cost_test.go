package plan

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"stagecraft/internal/dockerfile"
)

// TestCostIsLinear counts what planning allocates: twice the file may not cost
// more than about twice the memory. Bytes are counted as well as allocations,
// so that copying something long for every step shows.
func TestCostIsLinear(t *testing.T) {
	shapes := map[string]func(b *strings.Builder, n int){
		"steps": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12\nENV A=1\nARG B=2\n")
			for i := range n {
				fmt.Fprintf(b, "RUN echo %d $A\nCOPY f%d /d/\n", i, i)
			}
		},
		"chain": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12 AS s0\nENV A=1\n")
			for i := range n {
				fmt.Fprintf(b, "FROM s%d AS s%d\nENV A=%d\nRUN x\n", i, i+1, i)
			}
		},
		"labels": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12 AS s0\n")
			for i := range n {
				fmt.Fprintf(b, "LABEL l%d=%d\nEXPOSE %d\nFROM s%d AS s%d\n", i, i, i, i, i+1)
			}
		},
		"fan": func(b *strings.Builder, n int) {
			for i := range n {
				fmt.Fprintf(b, "FROM debian:12 AS s%d\nRUN x\n", i)
			}
			b.WriteString("FROM scratch\n")
			for i := range n {
				fmt.Fprintf(b, "COPY --from=s%d /x /x\n", i)
			}
		},
		"environment": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12\n")
			for i := range n {
				fmt.Fprintf(b, "ENV V%d=%d\nRUN x\n", i, i)
			}
		},
		"hidden": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12 AS s0\nENV A=1\n")
			for i := range n {
				fmt.Fprintf(b, "FROM s%d AS s%d\nARG A=%d\nRUN x\n", i, i+1, i)
			}
		},
		"skipped": func(b *strings.Builder, n int) {
			b.WriteString("FROM debian:12\n")
			for i := range n {
				fmt.Fprintf(b, "FROM debian:12 AS s%d\nCOPY --from=%d /x /x\n", i+1, i)
			}
			b.WriteString("FROM scratch\n")
		},
	}
	const small, factor = 250, 4
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			few, fewBytes := planCost(t, shape, small)
			many, manyBytes := planCost(t, shape, factor*small)
			// Slices and maps that grow by doubling cost up to twice their due.
			if limit := few * factor * 3 / 2; many > limit {
				t.Errorf("%d times the size takes %d allocations instead of %d, want at most %d", factor, many, few, limit)
			}
			if limit := fewBytes * factor * 2; manyBytes > limit {
				t.Errorf("%d times the size takes %d bytes instead of %d, want at most %d", factor, manyBytes, fewBytes, limit)
			}
		})
	}
}

// planCost returns the allocations and bytes of planning a file of size n.
func planCost(t *testing.T, shape func(*strings.Builder, int), n int) (allocations, bytes uint64) {
	t.Helper()
	var b strings.Builder
	shape(&b, n)
	f, err := dockerfile.Parse("Dockerfile", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := New(t.Context(), f, Options{Host: amd64}, new(registry)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc
}

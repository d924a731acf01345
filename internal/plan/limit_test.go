package plan

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"stagecraft/internal/dockerfile"
)

// TestHostileText holds that small files that ask for enormous text cost
// little, and are refused where they ask for more than the bounds.
func TestHostileText(t *testing.T) {
	some := "FROM debian:12\nENV A=0123456789abcdef\n" + strings.Repeat("ENV A=$A$A\n", 9) // 8 KiB
	big := some + strings.Repeat("ENV A=$A$A\n", 3)                                        // 64 KiB
	const tooMuch = "variables expand to too much text"
	for name, c := range map[string]struct{ src, want string }{
		"doubling":               {"FROM debian:12\nENV A=0123456789abcdef\n" + strings.Repeat("ENV A=$A$A\n", 40), tooMuch},
		"one word":               {big + "USER " + strings.Repeat("$A", 1000), tooMuch},
		"replace all":            {big + "USER ${A//?/" + strings.Repeat("x", 10000) + "}", tooMuch},
		"nested replace all":     {big + "USER ${A//?/${A//?/$A}}", tooMuch},
		"many labels":            {some + "LABEL " + strings.Repeat("l=$A ", 400), ""},
		"many variables":         {some + "ENV " + strings.Repeat("E=$A ", 400), ""},
		"many arguments":         {some + "ARG " + strings.Repeat("E=$A ", 400), ""},
		"many sources":           {some + "COPY " + strings.Repeat("$A ", 400) + "/", ""},
		"given, repeated":        {"FROM debian:12\nARG " + strings.Repeat("GIVEN ", 1000), tooMuch},
		"global, repeated":       {"ARG G=" + strings.Repeat("g", 60000) + "\nFROM debian:12\nARG " + strings.Repeat("G ", 1000), tooMuch},
		"history of arguments":   {big + "ARG B=$A\n" + strings.Repeat("RUN x\n", 600), tooMuch},
		"copies of environments": {manyVariables(8000) + strings.Repeat("ENV A=1\nRUN x\nENV A=2\nRUN y\n", 100), tooMuch},
		"ports":                  {"FROM debian:12\nEXPOSE " + strings.Repeat("0-65535 ", 1000), tooMuch},
		"many lines of ports":    {"FROM debian:12\n" + strings.Repeat("EXPOSE 0-65535\n", 30), tooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := dockerfile.Parse("Dockerfile", []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Host: amd64, BuildArgs: map[string]string{"GIVEN": strings.Repeat("g", 100000)}}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = New(t.Context(), f, o, new(registry))
			runtime.ReadMemStats(&after)
			if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %.200v, want %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 256<<20 {
				t.Errorf("planning takes %d MiB", got>>20)
			}
		})
	}
}

func manyVariables(n int) string {
	var b strings.Builder
	b.WriteString("FROM debian:12\n")
	for i := range n {
		fmt.Fprintf(&b, "ENV V%d=x\n", i)
	}
	return b.String()
}

// TestSkippedStagesAskNothing plans a needle in many stages.
func TestSkippedStagesAskNothing(t *testing.T) {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "FROM missing:%d AS s%d\nRUN x\nCOPY --from=missing:other /a /b\n", i, i)
	}
	b.WriteString("FROM debian:12\nRUN x\n")
	r := new(registry)
	p, err := planWith(t, b.String(), Options{}, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.asked) != 1 || len(p.Graph.Vertices) != 2 {
		t.Errorf("asked for %v and planned %d vertices, want debian and 2", r.asked, len(p.Graph.Vertices))
	}
}

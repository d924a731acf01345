package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	resultFile  = "docs/benchmarks.md"
	beginMarker = "<!-- begin: go run ./hack/bench -md -->"
	endMarker   = "<!-- end -->"
)

// results are all measurements of a run.
type results struct {
	runs     int
	names    []string // of the tools, in the order of the table; the first is what ratios are of
	inputs   *inputs
	measured map[string]map[string][]usage // row -> tool
	archives map[string]int64              // tool -> bytes of the exported archive
	byHand   []time.Duration               // the compile of the Go build without a builder
}

func newResults(runs int, builders []builder, in *inputs) *results {
	r := &results{runs: runs, inputs: in, measured: map[string]map[string][]usage{}, archives: map[string]int64{}}
	for _, b := range builders {
		r.names = append(r.names, b.name())
	}
	return r
}

func (r *results) add(row, tool string, u usage) {
	if r.measured[row] == nil {
		r.measured[row] = map[string][]usage{}
	}
	r.measured[row][tool] = append(r.measured[row][tool], u)
}

// walls returns the times of a row, sorted.
func (r *results) walls(row, tool string) []time.Duration {
	var walls []time.Duration
	for _, u := range r.measured[row][tool] {
		walls = append(walls, u.wall)
	}
	slices.Sort(walls)
	return walls
}

// median of sorted values, of which there is at least one.
func median(sorted []time.Duration) time.Duration {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio says how a median compares: 1/5.0 is a fifth of the other's time.
func ratio(own, other time.Duration) string {
	if own <= other {
		return fmt.Sprintf("1/%.1f", other.Seconds()/own.Seconds())
	}
	return fmt.Sprintf("%.2f", own.Seconds()/other.Seconds())
}

// times is the table of medians, their spread, and the ratios of the first tool's
// medians to the others'.
func (r *results) times() [][]string {
	head := []string{"workload"}
	head = append(head, r.names...)
	for _, other := range r.names[1:] {
		head = append(head, r.names[0]+" / "+other)
	}
	table := [][]string{head}
	for _, row := range rows {
		if r.measured[row] == nil {
			continue
		}
		line := []string{row}
		for _, name := range r.names {
			w := r.walls(row, name)
			line = append(line, fmt.Sprintf("%s (%s - %s)", show(median(w)), show(w[0]), show(w[len(w)-1])))
		}
		for _, other := range r.names[1:] {
			line = append(line, ratio(median(r.walls(row, r.names[0])), median(r.walls(row, other))))
		}
		table = append(table, line)
	}
	return table
}

// processor is the table of the medians of processor time.
func (r *results) processor() [][]string {
	table := [][]string{append([]string{"processor time"}, r.names...)}
	for _, row := range rows {
		if r.measured[row] == nil {
			continue
		}
		line := []string{row}
		for _, name := range r.names {
			var times []time.Duration
			for _, u := range r.measured[row][name] {
				times = append(times, u.cpu)
			}
			slices.Sort(times)
			line = append(line, show(median(times)))
		}
		table = append(table, line)
	}
	return table
}

// memory is the table of peaks. A RUN step's own processes would be counted with
// some tools and not with others: rows where they are large are left out.
func (r *results) memory() [][]string {
	table := [][]string{append([]string{"peak memory, MiB"}, r.names...)}
	for _, row := range rows {
		if r.measured[row] == nil || row == rowGo {
			continue
		}
		line := []string{row}
		for _, name := range r.names {
			var peak int64
			for _, u := range r.measured[row][name] {
				peak = max(peak, u.peak)
			}
			line = append(line, fmt.Sprint(peak>>20))
		}
		table = append(table, line)
	}
	return table
}

// notes are the lines below the tables.
func (r *results) notes() []string {
	in := r.inputs
	notes := []string{
		fmt.Sprintf("Medians of %d rounds (lowest - highest); four rebuilds a round in the first row.", r.runs),
		fmt.Sprintf("The toolchain: %d files, %d MB. The Go build starts from %s.", in.toolchainFiles, in.toolchainBytes/1_000_000, in.golangFrom),
	}
	if len(r.archives) > 0 {
		var sizes []string
		for _, name := range r.names {
			sizes = append(sizes, fmt.Sprintf("%s %.1f MB", name, float64(r.archives[name])/1e6))
		}
		notes = append(notes, "Archives: "+strings.Join(sizes, ", ")+".")
	}
	if len(r.byHand) > 0 {
		slices.Sort(r.byHand)
		hand, own := median(r.byHand), median(r.walls(rowGo, r.names[0]))
		notes = append(notes, fmt.Sprintf("The `go build` of the Go build by hand, with an empty build cache: %s; %s takes %.2f times that.",
			show(hand), r.names[0], own.Seconds()/hand.Seconds()))
	}
	return notes
}

// text is the result for a terminal.
func (r *results) text(m *machine) string {
	var b bytes.Buffer
	for _, table := range [][][]string{r.times(), r.processor(), r.memory()} {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, line := range table {
			fmt.Fprintln(w, strings.Join(line, "\t"))
		}
		_ = w.Flush() // into memory
		fmt.Fprintln(&b)
	}
	for _, line := range append(r.notes(), m.lines()...) {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// markdown is the result for the document, with the markers around it.
func (r *results) markdown(m *machine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", beginMarker)
	for _, line := range m.lines() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, table := range [][][]string{r.times(), r.processor(), r.memory()} {
		fmt.Fprintln(&b)
		for i, line := range table {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
			if i == 0 {
				fmt.Fprintf(&b, "|%s\n", strings.Repeat(" --- |", len(line)))
			}
		}
	}
	fmt.Fprintln(&b)
	for _, line := range r.notes() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n%s", endMarker)
	return b.String()
}

// writeMarkdown replaces what is between the markers of a document.
func writeMarkdown(path, section string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), beginMarker)
	_, after, ended := strings.Cut(rest, endMarker)
	if !found || !ended {
		return fmt.Errorf("%s: the markers %s and %s are not there", path, beginMarker, endMarker)
	}
	return os.WriteFile(path, []byte(before+section+after), 0o644)
}

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// row is one example as it was just built.
type row struct {
	name       string
	sdkName    string // the largest image that a stage starts from
	sdk        imageInfo
	production imageInfo
	wall       time.Duration
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "EXAMPLE\tSDK IMAGE\tSIZE\tPRODUCTION\tRATIO\tFILES\tLAYERS\tBUILT IN")
	for _, r := range rows {
		short := strings.TrimPrefix(strings.TrimPrefix(r.sdkName, "docker.io/"), "library/")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%.1fs\n", r.name, short,
			size(r.sdk.Size), size(r.production.Size), ratio(r.sdk.Size, r.production.Size),
			r.production.Files, len(r.production.Layers), r.wall.Seconds())
	}
	t.Flush()
	fmt.Fprintln(w, "Sizes are of the unpacked files; files and layers are the production image's.")
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// ratio says how many times larger the SDK image is.
func ratio(sdk, production int64) string {
	if production == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fx", float64(sdk)/float64(production))
}

package insight

import (
	"fmt"
	"io"

	"stagecraft/internal/plan"
)

// PlanFormats are the formats that [RenderPlan] writes, the default first.
var PlanFormats = [...]string{"text", "json", "dot", "mermaid"}

// RenderPlan writes what a build will do: the stages that run, in waves whose
// stages may run side by side, and the ones that are skipped, with the reason.
// An empty format is text.
//
// Instructions are shown as written, variables not expanded: a value given
// with --build-arg is in none of the formats.
func RenderPlan(w io.Writer, p *plan.Plan, format string) error {
	o := outlineOf(p)
	switch format {
	case "", "text":
		return o.text(w)
	case "json":
		return o.json(w)
	case "dot":
		return o.dot(w)
	case "mermaid":
		return o.mermaid(w)
	}
	return fmt.Errorf("plan format %q: not one of %v", format, PlanFormats)
}

package plan

import (
	"maps"
	"slices"

	"stagecraft/internal/oci"
)

// cloneImage copies what instructions change in place. Slices that are only
// ever replaced are shared.
func cloneImage(from oci.Image) oci.Image {
	i := from
	i.Config.ExposedPorts = maps.Clone(from.Config.ExposedPorts)
	i.Config.Volumes = maps.Clone(from.Config.Volumes)
	i.Config.Labels = maps.Clone(from.Config.Labels)
	i.Config.Env = slices.Clip(from.Config.Env)
	return i
}

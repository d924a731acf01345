package plan

import (
	"maps"

	"stagecraft/internal/oci"
)

// sets are the parts of a config that only ever grow, as one stage adds to
// them. They are put together for the target alone: copied from stage to stage
// they would cost the square of a long FROM chain.
type sets struct {
	labels         map[string]string
	ports, volumes map[string]struct{}
}

// put adds to a map that may not be there yet.
func put[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = make(map[string]V)
	}
	(*m)[key] = value
}

// addTo adds the sets to a config whose maps may be written.
func (s *sets) addTo(c *oci.Config) {
	merge(&c.Labels, s.labels)
	merge(&c.ExposedPorts, s.ports)
	merge(&c.Volumes, s.volumes)
}

func merge[V any](to *map[string]V, from map[string]V) {
	if *to == nil && len(from) > 0 {
		*to = make(map[string]V, len(from))
	}
	maps.Copy(*to, from)
}

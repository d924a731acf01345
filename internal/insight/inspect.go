package insight

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"stagecraft/internal/cache"
	"stagecraft/internal/image"
	"stagecraft/internal/oci"
)

// ImageInfo is what there is to know of an image of the local store. Sizes are
// in bytes, of the unpacked files.
type ImageInfo struct {
	ID       oci.Digest  `json:"id"`
	Names    []string    `json:"names"`
	Platform string      `json:"platform"`
	Created  string      `json:"created,omitempty"` // RFC 3339
	Config   oci.Config  `json:"config"`
	Layers   []LayerInfo `json:"layers"`
	Files    int         `json:"files"` // of all layers, directories not counted
	Size     int64       `json:"size"`
}

// LayerInfo is one layer of an image, lowest first.
type LayerInfo struct {
	DiffID    oci.Digest `json:"diffID"`
	CreatedBy string     `json:"createdBy,omitempty"`
	Files     int        `json:"files"`
	Size      int64      `json:"size"`
}

// Inspect describes an image of the local store by its name, ID or prefix of
// that. Its errors are those of [image.Images.Find].
func Inspect(store *cache.Store, name string) (*ImageInfo, error) {
	images := image.NewImages(store)
	stored, err := images.Find(name)
	if err != nil {
		return nil, err
	}
	img, err := images.Open(stored)
	if err != nil {
		return nil, err
	}
	info := &ImageInfo{
		ID: stored.ID, Names: []string{}, Platform: oci.FormatPlatform(stored.Platform),
		Config: img.Config.Config, Layers: []LayerInfo{},
	}
	for _, t := range stored.Tags {
		info.Names = append(info.Names, t.String())
	}
	if c := img.Config.Created; c != nil {
		info.Created = c.UTC().Format("2006-01-02T15:04:05Z")
	}
	var createdBy []string
	for _, h := range img.Config.History {
		if !h.EmptyLayer {
			createdBy = append(createdBy, h.CreatedBy)
		}
	}
	for i, id := range stored.Layers {
		l, err := store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
		li := LayerInfo{DiffID: img.Config.RootFS.DiffIDs[i], Files: l.Files, Size: l.Bytes}
		if len(createdBy) == len(stored.Layers) {
			li.CreatedBy = createdBy[i]
		}
		info.Layers = append(info.Layers, li)
		info.Files += l.Files
		info.Size += l.Bytes
	}
	return info, nil
}

// WriteJSON writes the facts as JSON.
func (i *ImageInfo) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(i)
}

// WriteText writes the facts for a person.
func (i *ImageInfo) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	line("ID", i.ID.String())
	line("Names", strings.Join(i.Names, " "))
	line("Platform", i.Platform)
	line("Created", i.Created)
	line("Size", fmt.Sprintf("%s in %d files, %d layers", units.HumanSize(float64(i.Size)), i.Files, len(i.Layers)))
	line("User", i.Config.User)
	line("WorkingDir", i.Config.WorkingDir)
	line("Entrypoint", quoted(i.Config.Entrypoint))
	line("Cmd", quoted(i.Config.Cmd))
	for _, e := range i.Config.Env {
		line("Env", e)
	}
	for _, port := range slices.Sorted(maps.Keys(i.Config.ExposedPorts)) {
		line("Port", port)
	}
	for _, volume := range slices.Sorted(maps.Keys(i.Config.Volumes)) {
		line("Volume", volume)
	}
	for _, name := range slices.Sorted(maps.Keys(i.Config.Labels)) {
		line("Label", name+"="+i.Config.Labels[name])
	}
	fmt.Fprintln(w, "\nSIZE\tFILES\tLAYER")
	for _, l := range i.Layers {
		fmt.Fprintf(w, "%s\t%d\t%s\n", units.HumanSize(float64(l.Size)), l.Files, l.CreatedBy)
	}
	return w.Flush()
}

func quoted(args []string) string {
	if len(args) == 0 {
		return ""
	}
	b, err := json.Marshal(args)
	if err != nil {
		return strings.Join(args, " ")
	}
	return string(b)
}

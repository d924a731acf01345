package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"stagecraft/internal/build"
	"stagecraft/internal/image"
	"stagecraft/internal/insight"
	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
)

func newImagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "images",
		Short: "List the images of the local store",
		Args:  args(cobra.NoArgs, "it takes no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return withBuilder(func(b *build.Builder) error {
				list, err := image.NewImages(b.Store).List()
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
				fmt.Fprintln(w, "NAME\tIMAGE ID\tCREATED\tSIZE")
				for _, img := range list {
					names := []string{"<none>"}
					if len(img.Tags) > 0 {
						names = nil
						for _, t := range img.Tags {
							names = append(names, t.Familiar())
						}
					}
					for _, name := range names {
						fmt.Fprintf(w, "%s\t%.12s\t%s ago\t%s\n", name, img.ID.Encoded(),
							units.HumanDuration(time.Since(img.Created)), units.HumanSize(float64(img.Size)))
					}
				}
				return w.Flush()
			})
		},
	}
}

func newRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rmi IMAGE...",
		Short: "Remove names of images, and images without a name",
		Args:  args(cobra.MinimumNArgs(1), "name at least one image"),
		RunE: func(c *cobra.Command, a []string) error {
			return withBuilder(func(b *build.Builder) error {
				for _, name := range a {
					untagged, removed, err := image.NewImages(b.Store).Remove(c.Context(), name)
					if err != nil {
						return build.AsFailure(err)
					}
					for _, t := range untagged {
						fmt.Println("Untagged:", t.Familiar())
					}
					if removed != "" {
						fmt.Println("Deleted:", removed)
					}
				}
				return nil
			})
		},
	}
}

func newTagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME",
		Short: "Give an image one more name",
		Args:  args(cobra.ExactArgs(2), "give an image and its new name"),
		RunE: func(c *cobra.Command, a []string) error {
			return withBuilder(func(b *build.Builder) error { return tag(c.Context(), b, a[0], a[1]) })
		},
	}
}

func tag(ctx context.Context, b *build.Builder, name, newName string) error {
	ref, err := oci.ParseReference(newName)
	if err != nil {
		return usageError(err.Error(), "write it like name:tag, in lower case")
	}
	images := image.NewImages(b.Store)
	img, err := images.Find(name)
	if err != nil {
		return build.AsFailure(err)
	}
	return images.Tag(ctx, img.ID, ref)
}

func newInspectCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show config, layers and sizes of an image",
		Args:  args(cobra.ExactArgs(1), "name one image of 'stagecraft images'"),
		RunE: func(_ *cobra.Command, a []string) error {
			return withBuilder(func(b *build.Builder) error {
				info, err := insight.Inspect(b.Store, a[0])
				if err != nil {
					return build.AsFailure(err)
				}
				switch format {
				case "text":
					return info.WriteText(os.Stdout)
				case "json":
					return info.WriteJSON(os.Stdout)
				}
				return usageError("--format "+format+": no such format", "use text or json")
			})
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

func newPlanCommand() *cobra.Command {
	var f buildFlags
	var format string
	c := &cobra.Command{
		Use:   "plan [flags] PATH",
		Short: "Show which stages a build runs, side by side or not, and which it skips",
		Args:  args(cobra.ExactArgs(1), "give one directory, the build context: often '.'"),
		RunE: func(c *cobra.Command, a []string) error {
			req, err := f.request(a[0])
			if err != nil {
				return err
			}
			var p *plan.Plan
			err = withBuilder(func(b *build.Builder) (err error) {
				p, err = b.Plan(c.Context(), req)
				return err
			})
			if err != nil {
				return err
			}
			if err := insight.RenderPlan(os.Stdout, p, format); err != nil {
				return usageError(err.Error(), "use text, json, dot or mermaid")
			}
			return nil
		},
	}
	f.planFlags(c.Flags())
	c.Flags().StringVar(&format, "format", "text", "text, json, dot or mermaid")
	return c
}

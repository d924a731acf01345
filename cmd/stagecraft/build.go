package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"
	"stagecraft/internal/build"
)

// buildFlags are the flags of docker buildx build that there are so far.
type buildFlags struct {
	file, target      string
	buildArgs, labels []string
	contexts, outputs []string
	tags              []string
	platform          string
	noCache, pull     bool
	quiet             bool
	progress          string
	iidFile, metaFile string
	jobs              int
}

// planFlags adds the flags that say what is built.
func (f *buildFlags) planFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&f.file, "file", "f", "", "path of the Dockerfile (default PATH/Dockerfile)")
	fs.StringVar(&f.target, "target", "", "stage to build: its name or index")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "value of an ARG: NAME=VALUE, or NAME to take it from the environment")
	fs.StringArrayVar(&f.contexts, "build-context", nil, "named context: NAME=DIR or NAME=oci-layout://DIR[:TAG]")
	fs.StringVar(&f.platform, "platform", "", "platform to build for (default the host's)")
	fs.BoolVar(&f.pull, "pull", false, "ask the registry for base images, even for those that are here")
}

// runFlags adds those that say how.
func (f *buildFlags) runFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&f.noCache, "no-cache", false, "run every step again")
	fs.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, tty, plain or quiet")
	fs.IntVar(&f.jobs, "jobs", 0, "how many steps run at once (default the larger of 4 and the number of CPUs)")
}

func newBuildCommand() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build [flags] PATH",
		Short: "Build an image from a Dockerfile",
		Example: `  stagecraft build -t app .
  stagecraft build --target test .
  stagecraft build -o type=oci,dest=app.tar .`,
		Args: args(cobra.ExactArgs(1), "give one directory, the build context: often '.'"),
		RunE: func(c *cobra.Command, a []string) error {
			return runBuild(c.Context(), &f, a[0])
		},
	}
	fs := c.Flags()
	f.planFlags(fs)
	f.runFlags(fs)
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "name of the image, repeatable")
	fs.StringArrayVar(&f.labels, "label", nil, "label of the image: NAME=VALUE")
	fs.StringArrayVarP(&f.outputs, "output", "o", nil, "where the result goes: type=oci|local|tar,dest=PATH[,tar=false]; a path alone is type=local")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print the image ID only")
	fs.StringVar(&f.iidFile, "iidfile", "", "write the image ID to this file")
	fs.StringVar(&f.metaFile, "metadata-file", "", "write facts about the result to this file, as JSON")
	return c
}

// request translates the flags.
func (f *buildFlags) request(dir string) (build.Request, error) {
	req := build.Request{
		ContextDir: dir, Dockerfile: f.file, Target: f.target, Platform: f.platform,
		NoCache: f.noCache, Pull: f.pull, Jobs: f.jobs, Tags: f.tags,
	}
	var err error
	if req.BuildArgs, err = pairs("--build-arg", f.buildArgs, true); err != nil {
		return req, err
	}
	if req.Labels, err = pairs("--label", f.labels, false); err != nil {
		return req, err
	}
	if req.Contexts, err = pairs("--build-context", f.contexts, false); err != nil {
		return req, err
	}
	for _, o := range f.outputs {
		out, err := parseOutput(o)
		if err != nil {
			return req, err
		}
		req.Outputs = append(req.Outputs, out)
	}
	return req, nil
}

// pairs reads NAME=VALUE. With fromEnv, a NAME alone has the value of the
// environment, and is dropped where that has none, as docker does.
func pairs(flag string, list []string, fromEnv bool) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		if name == "" {
			return nil, usageError(fmt.Sprintf("%s %q: the name is missing", flag, kv), "write NAME=VALUE")
		}
		if !ok && fromEnv {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		} else if !ok && flag == "--build-context" {
			return nil, usageError(fmt.Sprintf("%s %q: the value is missing", flag, kv), "write NAME=DIR or NAME=oci-layout://DIR[:TAG]")
		}
		m[name] = value
	}
	return m, nil
}

// parseOutput reads the value of -o, which is CSV as buildx has it.
func parseOutput(s string) (build.Output, error) {
	bad := func(format string, a ...any) (build.Output, error) {
		return build.Output{}, usageError("--output "+s+": "+fmt.Sprintf(format, a...),
			"write type=oci|local|tar,dest=PATH")
	}
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return bad("%v", err)
	}
	if len(fields) == 1 && !strings.Contains(s, "=") {
		if s == "-" {
			return build.Output{Type: build.OutputTar, Dest: "-"}, nil
		}
		return build.Output{Type: build.OutputLocal, Dest: s}, nil
	}
	o := build.Output{Tar: true}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return bad("%q is not KEY=VALUE", field)
		}
		switch strings.ToLower(key) {
		case "type":
			o.Type = build.OutputType(value)
		case "dest":
			o.Dest = value
		case "tar":
			switch value {
			case "true", "1":
				o.Tar = true
			case "false", "0":
				o.Tar = false
			default:
				return bad("tar=%s is neither true nor false", value)
			}
		default:
			return bad("option %s is not supported yet", key)
		}
	}
	switch o.Type {
	case build.OutputOCI, build.OutputLocal, build.OutputTar:
		if o.Dest == "" && o.Type != build.OutputLocal {
			o.Dest = "-"
		}
		return o, nil
	case "":
		return bad("the type is missing")
	}
	return bad("type %s is not supported yet", o.Type)
}

func runBuild(ctx context.Context, f *buildFlags, dir string) error {
	req, err := f.request(dir)
	if err != nil {
		return err
	}
	if f.quiet {
		f.progress = "quiet"
	}
	show, err := newProgress(f.progress)
	if err != nil {
		return err
	}
	req.Observe = show.observe
	var result *build.Result
	err = withBuilder(func(b *build.Builder) (err error) {
		result, err = b.Build(ctx, req)
		return err
	})
	show.close()
	if err != nil {
		return err
	}
	if err := writeFacts(f, result); err != nil {
		return err
	}
	if f.quiet && result.ImageID != "" {
		fmt.Println(result.ImageID)
	}
	if f.progress != "quiet" {
		printSummary(os.Stderr, result)
	}
	return nil
}

// writeFacts writes the files that --iidfile and --metadata-file name.
func writeFacts(f *buildFlags, r *build.Result) error {
	var errs []error
	if f.iidFile != "" {
		errs = append(errs, os.WriteFile(f.iidFile, []byte(r.ImageID), 0o644))
	}
	if f.metaFile != "" {
		meta := map[string]any{"containerimage.config.digest": r.ImageID}
		if r.ManifestDigest != "" {
			meta["containerimage.digest"] = r.ManifestDigest
		}
		if r.Descriptor.Digest != "" {
			meta["containerimage.descriptor"] = r.Descriptor
		}
		if len(r.Names) > 0 {
			meta["image.name"] = strings.Join(r.Names, ",")
		}
		b, err := json.MarshalIndent(meta, "", "  ")
		errs = append(errs, err, os.WriteFile(f.metaFile, append(b, '\n'), 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return &build.Failure{Kind: build.BadStorage, Err: err, Hint: "choose a file you may write to"}
	}
	return nil
}

// printSummary says in one line what the build did, after what was left out.
func printSummary(w io.Writer, r *build.Result) {
	s := &r.Summary
	for _, st := range s.Skipped {
		fmt.Fprintf(w, "skipped stage %s: %s\n", st.Label(), st.Reason)
	}
	var parts []string
	add := func(format string, a ...any) { parts = append(parts, fmt.Sprintf(format, a...)) }
	add("%s run, %d cached", count(s.Ran, "step"), s.Cached)
	if len(s.Skipped) > 0 {
		add("%s skipped", count(len(s.Skipped), "stage"))
	}
	if s.Ran > 0 {
		add("%s, %s saved by running side by side", seconds(s.Wall), seconds(s.Saved))
	}
	size := "image " + units.HumanSize(float64(s.ImageBytes))
	if s.Largest != "" {
		size += fmt.Sprintf(" against %s of stage %s", units.HumanSize(float64(s.LargestBytes)), s.Largest)
	}
	if s.ImageBytes > 0 && s.LargestBytes >= 2*s.ImageBytes {
		size += fmt.Sprintf(" (1/%.0f)", float64(s.LargestBytes)/float64(s.ImageBytes))
	}
	parts = append(parts, size)
	if r.ImageID != "" {
		add("%.19s", r.ImageID)
	}
	if len(r.Names) > 0 {
		add("%s", strings.Join(r.Names, " "))
	}
	fmt.Fprintln(w, strings.Join(parts, "; "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// Command demo builds the examples and prints a table of what it built.
//
//	demo [-bases registry|own|DIR] [EXAMPLE...]
//
// It runs in the project's root directory and builds with bin/stagecraft. Base
// images come from their registries where those can be reached, else from
// hack/bases; -bases settles it, or names an OCI layout whose images come first.
// An example whose base image cannot be had is named and left out.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	stagecraft = "bin/stagecraft"
	workDir    = ".work/demo"
)

func main() {
	mode := flag.String("bases", "", "where base images come from: registry, own, or the `directory` of an OCI layout")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *mode, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mode string, names []string) error {
	examples, err := readExamples("examples")
	if err != nil {
		return err
	}
	if len(names) > 0 {
		examples = slices.DeleteFunc(examples, func(e example) bool { return !slices.Contains(names, e.name) })
	}
	from, err := openSources(ctx, mode)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(workDir, 0o755); err != nil {
		return err
	}
	jobs, missing := resolve(ctx, from, examples)
	if err := makeBases(ctx, jobs); err != nil {
		return err
	}
	var rows []row
	for _, j := range jobs {
		r, err := j.build(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	fmt.Println()
	printTable(os.Stdout, rows)
	for _, m := range missing {
		fmt.Printf("not built: %s\n", m)
	}
	if len(rows) == 0 {
		return fmt.Errorf("demo: none of the examples could be built")
	}
	return nil
}

// job is an example and where its base images come from.
type job struct {
	example
	from []origin // of the example's bases
}

// resolve finds the base images of all examples. The second result names the
// examples whose base images cannot be had, with the reason.
func resolve(ctx context.Context, from *sources, examples []example) (jobs []job, missing []string) {
	said := map[string]bool{}
next:
	for _, e := range examples {
		j := job{example: e}
		for _, base := range e.bases {
			o, err := from.find(ctx, base)
			if err != nil {
				missing = append(missing, fmt.Sprintf("%s: base image %s: %v", e.name, base, err))
				continue next
			}
			j.from = append(j.from, o)
		}
		for _, o := range j.from {
			if !said[o.name] {
				fmt.Printf("base image %-45s %s\n", o.name, o)
				said[o.name] = true
			}
		}
		jobs = append(jobs, j)
	}
	return jobs, missing
}

// makeBases builds those base images that are made here.
func makeBases(ctx context.Context, jobs []job) error {
	var own []string
	for _, j := range jobs {
		for _, o := range j.from {
			if o.own && !slices.Contains(own, o.name) {
				own = append(own, o.name)
			}
		}
	}
	if len(own) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./hack/bases"}, own...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make base images: %w", err)
	}
	return nil
}

// build builds the example and, as an image of its own, the largest image that it
// starts from.
func (j job) build(ctx context.Context) (row, error) {
	fmt.Printf("\n%s\n", j.dir)
	image := "stagecraft.example/" + j.name
	start := time.Now()
	if err := j.run(ctx, "", append(flags(j.from), "-t", image, j.dir)); err != nil {
		return row{}, err
	}
	r := row{name: j.name, wall: time.Since(start)}
	var err error
	if r.production, err = inspect(ctx, image); err != nil {
		return row{}, err
	}
	for i, base := range j.from {
		info, err := j.inspectBase(ctx, base, fmt.Sprintf("%s-base-%d", image, i))
		if err != nil {
			return row{}, err
		}
		if info.Size > r.sdk.Size {
			r.sdk, r.sdkName = info, base.name
		}
	}
	return r, nil
}

// inspectBase builds the base image alone, as a Dockerfile of one line does:
// wherever it comes from, it is then an image of the store.
func (j job) inspectBase(ctx context.Context, base origin, image string) (imageInfo, error) {
	dir := filepath.Join(workDir, "base")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return imageInfo{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+base.name+"\n"), 0o644); err != nil {
		return imageInfo{}, err
	}
	if err := j.run(ctx, "-base", append(flags([]origin{base}), "-t", image, dir)); err != nil {
		return imageInfo{}, err
	}
	return inspect(ctx, image)
}

// run calls stagecraft build. The output goes to a log, of which the last line,
// the summary, is shown; all of the end where it failed.
func (j job) run(ctx context.Context, logSuffix string, args []string) error {
	cmd := exec.CommandContext(ctx, stagecraft, append([]string{"build", "--progress", "plain"}, args...)...)
	out, err := cmd.CombinedOutput()
	log := filepath.Join(workDir, j.name+logSuffix+".log")
	if writeErr := os.WriteFile(log, out, 0o644); writeErr != nil {
		return writeErr
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		return fmt.Errorf("build %s: %w; the end of %s:\n%s", j.dir, err, log, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	if logSuffix == "" {
		for _, line := range lines {
			if line != "" && !strings.HasPrefix(line, "#") { // not of a step
				fmt.Println("  " + line)
			}
		}
	}
	return nil
}

// imageInfo is what `stagecraft inspect --format json` says.
type imageInfo struct {
	Files  int
	Size   int64 // bytes, unpacked
	Layers []json.RawMessage
}

func inspect(ctx context.Context, image string) (imageInfo, error) {
	out, err := exec.CommandContext(ctx, stagecraft, "inspect", "--format", "json", image).Output()
	if err != nil {
		return imageInfo{}, fmt.Errorf("inspect %s: %w", image, err)
	}
	var info imageInfo
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&info); err != nil {
		return imageInfo{}, fmt.Errorf("inspect %s: %w", image, err)
	}
	return info, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// workload is a sequence of builds of which some are measured.
type workload struct {
	name string
	run  func(ctx context.Context, s *session) error
}

// session is one round of a workload with one tool.
type session struct {
	builder builder
	inputs  *inputs
	round   int // round 0 does not count
	last    bool
	results *results
	log     []string
}

var workloads = []workload{
	{"stages", fourStages},
	{"steps", runSteps},
	{"files", copyFiles},
	{"toolchain", copyToolchain},
	{"go", buildGo},
}

// Rows of the table of results, in order.
const (
	rowStages    = "unchanged rebuild of four stages"
	rowSteps     = "20 RUN steps, cold"
	rowFiles     = "COPY of 20,000 files, cold"
	rowUnchanged = "COPY of 20,000 files, unchanged"
	rowChanged   = "COPY of 20,000 files, one changed"
	rowToolchain = "COPY and COPY --from of a toolchain, cold"
	rowExport    = "first export of it, gzip archive"
	rowGo        = "two-stage Go build, cold"
)

var rows = []string{rowStages, rowSteps, rowFiles, rowUnchanged, rowChanged, rowToolchain, rowExport, rowGo}

func workloadNames() []string {
	names := make([]string, len(workloads))
	for i, w := range workloads {
		names[i] = w.name
	}
	return names
}

// selectWorkloads returns the workloads of a comma-separated list, all for "".
func selectWorkloads(list string) ([]workload, error) {
	if list == "" {
		return workloads, nil
	}
	var selected []workload
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %s: workloads are %s", name, strings.Join(workloadNames(), ", "))
		}
		selected = append(selected, workloads[i])
	}
	return selected, nil
}

// timed runs one command of the tool as a measurement of a row.
func (s *session) timed(row string, command func() (usage, error)) error {
	if err := settle(s.inputs.dir); err != nil {
		return err
	}
	u, err := command()
	if err != nil {
		return err
	}
	s.log = append(s.log, show(u.wall))
	if s.round > 0 {
		s.results.add(row, s.builder.name(), u)
	}
	return nil
}

func (s *session) build(ctx context.Context, row string, j job) error {
	return s.timed(row, func() (usage, error) { return s.builder.build(ctx, j) })
}

// check reads back, in the last round, the image that was just built.
func (s *session) check(ctx context.Context, j job, wanted ...expectation) error {
	if !s.last {
		return nil
	}
	return s.withOutput(func(dir string) error {
		if _, err := s.builder.export(ctx, j, dir, false); err != nil {
			return err
		}
		return checkImage(ctx, dir, wanted)
	})
}

// withOutput calls f with the path of an output that is not there yet, and removes
// what f left there.
func (s *session) withOutput(f func(path string) error) error {
	path := filepath.Join(s.inputs.dir, "output")
	return errors.Join(f(path), os.RemoveAll(path))
}

// fourStages is so short that four builds a round are measured.
func fourStages(ctx context.Context, s *session) error {
	if err := s.builder.reset(ctx, s.inputs.busybox); err != nil {
		return err
	}
	j := s.inputs.job("stages")
	if _, err := s.builder.build(ctx, j); err != nil {
		return err
	}
	for range 4 {
		if err := s.build(ctx, rowStages, j); err != nil {
			return err
		}
	}
	return s.check(ctx, j, hasText("srv/app", "a\nb\napp\n"), hasText("srv/page", "a\nb\npage\n"))
}

func runSteps(ctx context.Context, s *session) error {
	if err := s.builder.reset(ctx, s.inputs.busybox); err != nil {
		return err
	}
	j := s.inputs.job("steps")
	if err := s.build(ctx, rowSteps, j); err != nil {
		return err
	}
	var wanted []expectation
	for i := 1; i <= steps; i++ {
		wanted = append(wanted, hasText(fmt.Sprintf("step%d", i), fmt.Sprintf("%d\n", i)))
	}
	return s.check(ctx, j, wanted...)
}

func copyFiles(ctx context.Context, s *session) error {
	if err := s.builder.reset(ctx, s.inputs.busybox); err != nil {
		return err
	}
	j := s.inputs.job("files")
	if err := s.build(ctx, rowFiles, j); err != nil {
		return err
	}
	if err := s.build(ctx, rowUnchanged, j); err != nil {
		return err
	}
	if err := s.inputs.changeSmallFile(); err != nil {
		return err
	}
	if err := s.build(ctx, rowChanged, j); err != nil {
		return err
	}
	return s.check(ctx, j, hasFilesOf("data", j.context))
}

func copyToolchain(ctx context.Context, s *session) error {
	if err := s.builder.reset(ctx, s.inputs.busybox); err != nil {
		return err
	}
	j := s.inputs.job("toolchain")
	j.context = s.inputs.goroot
	if err := s.build(ctx, rowToolchain, j); err != nil {
		return err
	}
	return s.withOutput(func(archive string) error {
		err := s.timed(rowExport, func() (usage, error) { return s.builder.export(ctx, j, archive, true) })
		if err != nil {
			return err
		}
		stat, err := os.Stat(archive)
		if err != nil {
			return err
		}
		s.results.archives[s.builder.name()] = stat.Size()
		if !s.last {
			return nil
		}
		dir := archive + ".d"
		err = unpackArchive(ctx, archive, dir)
		if err == nil {
			err = checkImage(ctx, dir, []expectation{hasFilesOf("opt/go", j.context)})
		}
		return errors.Join(err, os.RemoveAll(dir))
	})
}

// buildGo keeps the store from round to round: every step that runs in a build does
// so because the program is a new one. The same command by hand is measured beside
// the first tool.
func buildGo(ctx context.Context, s *session) error {
	if s.round == 0 {
		if err := s.builder.reset(ctx, s.inputs.golang); err != nil {
			return err
		}
	}
	text, err := s.inputs.changeProgram()
	if err != nil {
		return err
	}
	j := s.inputs.job("go")
	if err := s.build(ctx, rowGo, j); err != nil {
		return err
	}
	if s.results.names[0] == s.builder.name() && s.round > 0 {
		if err := s.buildByHand(ctx, j); err != nil {
			return err
		}
	}
	return s.check(ctx, j, prints("app", text+"\n"))
}

// buildByHand compiles the program with no builder around it, and with an empty
// build cache as in a builder.
func (s *session) buildByHand(ctx context.Context, j job) error {
	return s.withOutput(func(dir string) error {
		if err := settle(s.inputs.dir); err != nil {
			return err
		}
		env := []string{"CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off", "GOCACHE=" + filepath.Join(dir, "cache")}
		u, _, err := execute(ctx, place{env: env}, filepath.Join(s.inputs.goroot, "bin/go"), "build", "-C", j.context, "-trimpath", "-o", filepath.Join(dir, "app"), ".")
		if err != nil {
			return err
		}
		s.results.byHand = append(s.results.byHand, u.wall)
		s.log = append(s.log, "by hand "+show(u.wall))
		return nil
	})
}

// show writes a duration for people.
func show(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

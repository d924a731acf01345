package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"stagecraft/internal/dockerfile"
	"stagecraft/internal/graph"
	"stagecraft/internal/image"
	"stagecraft/internal/sandbox"
	"stagecraft/internal/solve"
	"stagecraft/internal/tree"
)

// FailureKind sorts failures for exit codes.
type FailureKind int

// The kinds of failures.
const (
	FailedStep  FailureKind = iota + 1 // an instruction did not succeed
	BadInput                           // the request, the Dockerfile or the context is wrong
	NoImage                            // an image could not be had
	BadStorage                         // the store or an output could not be read or written
	Interrupted                        // the user ended it
)

// Failure is why a build ended without a result, for a person to read.
type Failure struct {
	Kind  FailureKind
	Where string // "Dockerfile:12 RUN go build ./...", or what was being done
	Err   error  // what happened
	Hint  string // what to try
}

func (f *Failure) Error() string {
	if f.Where == "" {
		return f.Err.Error()
	}
	return fmt.Sprintf("%s: %v", f.Where, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// AsFailure sorts an error that is of no step.
func AsFailure(err error) error {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	f = &Failure{Kind: BadStorage, Err: err}
	var syntax *dockerfile.Error
	if errors.As(err, &syntax) {
		f.Kind, f.Hint = BadInput, syntax.Hint
		f.Where = graph.Position{File: syntax.File, Line: syntax.Line}.String()
		if syntax.Instruction != "" {
			f.Where += " " + syntax.Instruction
		}
		f.Err = errors.New(syntax.Problem)
	}
	f.sort(err)
	return f
}

// sort recognises causes that say more than the place they came from.
func (f *Failure) sort(err error) {
	var hint interface{ Hint() string }
	var hostile *tree.HostileError
	var missing *sandbox.ExecError
	switch {
	case errors.As(err, &hint):
		f.Kind = NoImage
		if f.Hint == "" { // else the planner knows better, a stage with a like name say
			f.Hint = hint.Hint()
		}
	case errors.As(err, &hostile):
		f.Kind, f.Hint = NoImage, "do not use this image: its layers try to write where they must not; a corrected one needs --pull"
	case errors.As(err, &missing):
		f.Hint = "check the command's name and the PATH of the image; scratch and distroless images have no shell"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		f.Kind, f.Hint = BadStorage, "make room, or choose another place for the store with STAGECRAFT_ROOT"
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission) && f.Kind == BadStorage:
		f.Kind, f.Hint = BadStorage, "choose a place you may write to"
	case errors.Is(err, context.Canceled):
		f.Kind, f.Hint = Interrupted, "run it again: finished steps are kept"
	}
}

// stepFailure says which instruction failed, and why.
func (s *session) stepFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &Failure{Kind: Interrupted, Err: errors.New("interrupted"), Hint: "run it again: finished steps are kept"}
	}
	var step *solve.StepError
	if !errors.As(err, &step) {
		return AsFailure(err)
	}
	v := step.Vertex
	f := &Failure{Kind: FailedStep, Where: where(v), Err: step.Err}
	var inner *Failure
	if errors.As(step.Err, &inner) {
		f.Kind, f.Err, f.Hint = inner.Kind, inner.Err, inner.Hint
		if inner.Where != "" {
			f.Where = inner.Where
		}
		return f
	}
	f.sort(step.Err)
	var exit *ExitError
	if f.Hint == "" && errors.As(step.Err, &exit) {
		f.Hint = exitHint(exit)
	}
	return f
}

// where names the instruction that a vertex came from.
func where(v *graph.Vertex) string {
	return strings.TrimSpace(v.Pos.String() + " " + shortText(v.Text))
}

// baseFailure says by which FROM a build came to an image whose layers cannot
// be had. Other errors, of the store say, are not of the image, and stay.
func (s *session) baseFailure(img *image.Image, err error) error {
	var f *Failure
	if err == nil || img == nil || !errors.As(AsFailure(err), &f) || f.Kind != NoImage {
		return err
	}
	for _, v := range s.plan.Graph.Vertices {
		if op, ok := v.Op.(*graph.Image); ok && op.Digest == img.Digest {
			f.Where = where(v)
			break
		}
	}
	return f
}

func exitHint(exit *ExitError) string {
	switch {
	case exit.Status.Signal == unix.SIGKILL:
		return "it may have run out of memory; the output above says how far it came"
	case exit.Status.Code == 127:
		return "the shell did not find a command: is it installed in this stage?"
	case exit.Status.Code == 126:
		return "a file that should run is not executable: chmod +x it"
	}
	return "its output is above; 'stagecraft run --target STAGE PATH -- sh' opens a shell in a stage before it"
}

// explainMissing says why a source of COPY or ADD is not there.
func (r *runner) explainMissing(m *tree.MissingError, a *graph.Copy, src *value) error {
	f := &Failure{Kind: BadInput, Err: m}
	if src.local == "" {
		f.Hint = "the path is looked up in the stage or image that --from names; RUN ls there to see what it has"
		return f
	}
	f.Hint = "paths are relative to the build context " + r.inputs.dir(src.local)
	if rule, ok := r.inputs.hiddenBy(src.local, m.Path); ok {
		f.Err = fmt.Errorf("%w in what the build sees: %s hides it", m, rule)
		f.Hint = "remove that line, or let the path in again with a line '!" + m.Path + "'"
	}
	return f
}

// explainArchive says of an archive that ADD unpacks what is wrong with it.
func explainArchive(err error) error {
	var hostile *tree.HostileError
	if !errors.As(err, &hostile) {
		return err
	}
	return &Failure{Kind: BadInput, Err: err, Hint: "do not add this archive: it tries to write where it must not"}
}

// outputFailure says which output could not be written.
func (s *session) outputFailure(ctx context.Context, o Output, err error) error {
	if ctx.Err() != nil {
		return &Failure{Kind: Interrupted, Err: errors.New("interrupted"), Hint: "run it again: finished steps are kept"}
	}
	var inner *Failure
	if errors.As(err, &inner) && inner.Where != "" {
		return inner
	}
	f := &Failure{Kind: BadStorage, Where: fmt.Sprintf("output type=%s,dest=%s", o.Type, o.Dest), Err: err,
		Hint: "give a dest whose directory exists and can be written to"}
	f.sort(err)
	if f.Kind == BadStorage && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		f.Hint = "make room there, or give another dest"
	}
	return f
}

// shortText is an instruction on one line, cut where it is long.
func shortText(s string) string {
	const most = 72
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most-3]) + "..."
	}
	return s
}

// checkUser refuses what this process may not do, before it does half of it.
func checkUser() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &Failure{Kind: BadInput, Err: errors.New("building and running as a user other than root is not supported yet"),
		Hint: "run it as root"}
}

func checkOutputs(outputs []Output) error {
	for _, o := range outputs {
		switch {
		case o.Dest == "":
			return &Failure{Kind: BadInput, Where: "--output type=" + string(o.Type), Err: errors.New("dest is missing"), Hint: "say dest=PATH"}
		case o.Dest == "-" && (o.Type == OutputLocal || o.Type == OutputOCI && !o.Tar):
			return &Failure{Kind: BadInput, Where: "--output type=" + string(o.Type), Err: errors.New("a directory cannot go to standard output"), Hint: "say dest=DIR"}
		}
	}
	return nil
}

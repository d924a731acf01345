package build

import "fmt"

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

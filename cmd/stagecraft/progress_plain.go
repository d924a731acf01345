package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"stagecraft/internal/build"
)

// plainProgress writes events as lines that any log keeps readable: steps that
// run side by side are told apart by their number.
//
//	#3 [build 2/5] RUN go build ./...
//	#3 0.412 go: downloading ...
//	#3 DONE 4.1s
type plainProgress struct {
	mu   sync.Mutex
	w    io.Writer
	rest map[int][]byte // of each step, a line not yet ended
	last int            // the step of the line printed last
}

func newPlainProgress(w io.Writer) *plainProgress {
	return &plainProgress{w: w, rest: map[int][]byte{}}
}

func (p *plainProgress) observe(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case build.EventNotice:
		fmt.Fprintf(p.w, "%s\n", printable(e.Text))
	case build.EventStarted:
		p.line(e.Step, e.Name)
	case build.EventCached:
		p.line(e.Step, e.Name)
		p.line(e.Step, "CACHED")
	case build.EventLog:
		p.log(e)
	case build.EventDone:
		p.flush(e)
		p.line(e.Step, fmt.Sprintf("DONE %.1fs", e.Since))
	case build.EventFailed:
		p.flush(e)
		p.line(e.Step, "ERROR: "+e.Text)
	}
}

func (p *plainProgress) close() {}

func (p *plainProgress) log(e build.Event) {
	b := append(p.rest[e.Step], e.Log...)
	for {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			break
		}
		p.line(e.Step, fmt.Sprintf("%.3f %s", e.Since, line))
		b = rest
	}
	p.rest[e.Step] = b
}

// flush prints the last line of a step that did not end it.
func (p *plainProgress) flush(e build.Event) {
	if b := p.rest[e.Step]; len(b) > 0 {
		p.line(e.Step, fmt.Sprintf("%.3f %s", e.Since, b))
	}
	delete(p.rest, e.Step)
}

func (p *plainProgress) line(step int, text string) {
	if p.last != step && p.last != 0 {
		fmt.Fprintln(p.w)
	}
	p.last = step
	fmt.Fprintf(p.w, "#%d %s\n", step, printable(text))
}

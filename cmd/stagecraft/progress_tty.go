package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
	"stagecraft/internal/build"
)

// redrawEvery bounds how often the terminal is written to.
const redrawEvery = 100 * time.Millisecond

// tailLines is how many lines of its output a running step shows.
const tailLines = 4

// ttyProgress keeps finished steps in the scrollback and redraws the running
// ones below them.
type ttyProgress struct {
	mu      sync.Mutex
	out     *os.File
	running []*ttyStep // in the order they started
	above   strings.Builder
	drawn   int // lines of the last redraw
	stop    chan struct{}
	done    sync.WaitGroup
}

type ttyStep struct {
	id      int
	name    string
	started time.Time
	tail    []string
	rest    string
}

func newTTYProgress(out *os.File) *ttyProgress {
	p := &ttyProgress{out: out, stop: make(chan struct{})}
	p.done.Go(func() {
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.redraw()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

func (p *ttyProgress) close() {
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	p.running = nil
	p.mu.Unlock()
	p.redraw()
}

func (p *ttyProgress) observe(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := p.step(e.Step)
	switch e.Kind {
	case build.EventNotice:
		fmt.Fprintln(&p.above, printable(e.Text))
	case build.EventStarted:
		p.running = append(p.running, &ttyStep{id: e.Step, name: printable(e.Name), started: e.At})
	case build.EventCached:
		fmt.Fprintf(&p.above, " => CACHED %s\n", printable(e.Name))
	case build.EventLog:
		if step != nil {
			step.print(string(e.Log))
		}
	case build.EventDone:
		if step != nil {
			fmt.Fprintf(&p.above, " => %s  %.1fs\n", step.name, e.Since)
		}
		p.end(e.Step)
	case build.EventFailed:
		if step != nil {
			fmt.Fprintf(&p.above, " => ERROR %s  %.1fs\n", step.name, e.Since)
			for _, line := range step.tail {
				fmt.Fprintf(&p.above, " =>   %s\n", line)
			}
		}
		p.end(e.Step)
	}
}

func (p *ttyProgress) step(id int) *ttyStep {
	for _, s := range p.running {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (p *ttyProgress) end(id int) {
	for i, s := range p.running {
		if s.id == id {
			p.running = append(p.running[:i], p.running[i+1:]...)
			return
		}
	}
}

func (s *ttyStep) print(text string) {
	lines := strings.Split(s.rest+text, "\n")
	s.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		s.tail = append(s.tail, printable(line))
	}
	if n := len(s.tail) - tailLines; n > 0 {
		s.tail = s.tail[n:]
	}
}

func (p *ttyProgress) redraw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	width, height, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	var lines []string
	for _, s := range p.running {
		lines = append(lines, fmt.Sprintf(" => %s  %.1fs", s.name, time.Since(s.started).Seconds()))
		for _, line := range s.tail {
			lines = append(lines, " =>   "+line)
		}
	}
	if n := len(lines) - (height - 2); n > 0 {
		lines = lines[:len(lines)-n]
	}
	if p.above.Len() == 0 && len(lines) == 0 && p.drawn == 0 {
		return
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	b.WriteString("\x1b[J")
	b.WriteString(p.above.String())
	p.above.Reset()
	for _, line := range lines {
		if r := []rune(line); len(r) >= width {
			line = string(r[:width-1])
		}
		b.WriteString(line + "\n")
	}
	p.drawn = len(lines)
	p.out.WriteString(b.String()) //nolint:errcheck // a terminal that is gone is not the build's failure
}

package main

import (
	"fmt"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
	"stagecraft/internal/build"
)

// progress shows a build while it runs.
type progress interface {
	observe(build.Event)
	close()
}

type quietProgress struct{}

func (quietProgress) observe(build.Event) {}
func (quietProgress) close()              {}

// newProgress returns the display of that --progress mode, on standard error.
func newProgress(mode string) (progress, error) {
	tty := term.IsTerminal(int(os.Stderr.Fd()))
	switch mode {
	case "auto", "":
		if tty {
			return newTTYProgress(os.Stderr), nil
		}
		return newPlainProgress(os.Stderr), nil
	case "tty":
		if !tty {
			return nil, usageError("--progress=tty: standard error is not a terminal", "use --progress=plain")
		}
		return newTTYProgress(os.Stderr), nil
	case "plain":
		return newPlainProgress(os.Stderr), nil
	case "quiet", "none":
		return quietProgress{}, nil
	}
	return nil, usageError(fmt.Sprintf("--progress=%s: no such mode", mode), "use auto, tty, plain or quiet")
}

// printable replaces what could move the cursor or change the terminal: what a
// step prints, and the names of files, are not ours to trust. A carriage
// return keeps only what was written after it, as on a terminal.
func printable(s string) string {
	s = strings.TrimSuffix(s, "\r")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return '\uFFFD'
		}
		return r
	}, s)
}

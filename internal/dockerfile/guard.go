package dockerfile

import (
	"bytes"
	"strings"
)

// Bounds of what is given to the parser. No real Dockerfile comes near them;
// they keep its recursion, and work that grows with the square of a line's
// length, out of reach of a hostile one.
const (
	maxSize    = 2 << 20 // bytes
	maxLine    = 64 << 10
	maxNesting = 64 // of ${a:-${b:-...}}, and of ONBUILD ONBUILD ...
)

// guard refuses what the parser is not to see.
func (f *File) guard(src []byte) error {
	if len(src) > maxSize {
		return f.Errorf(0, "", "the file has %d bytes, more than the %d that are allowed", len(src), maxSize)
	}
	var g logicalLine
	number, instructions := 0, false
	for line := range bytes.Lines(src) {
		number++
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(line) >= maxLine {
			return f.Errorf(number, "", "the line has %d bytes, more than the %d that are allowed", len(line), maxLine-1)
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		instructions = true
		if g.add(string(line)); g.depth > maxNesting || g.onbuild > maxNesting {
			return f.Errorf(number, "", "nested more than %d deep", maxNesting)
		}
	}
	if !instructions {
		e := f.Errorf(max(1, number), "", "the file has no instructions")
		e.Hint = "a Dockerfile starts with FROM"
		return e
	}
	return nil
}

// logicalLine follows an instruction over its continuation lines. It takes
// either escape character for one that continues, and so sees lines that are
// at least as long as the parser's.
type logicalLine struct {
	depth   int  // of ${ that are open, at its highest since the start
	open    int  // of ${ that are open now
	onbuild int  // ONBUILDs at the start
	other   bool // a word that is not ONBUILD was seen
}

func (g *logicalLine) add(line string) {
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '}':
			g.open = max(0, g.open-1)
		case strings.HasPrefix(line[i:], "${"):
			g.open++
			g.depth = max(g.depth, g.open)
		}
	}
	body := strings.TrimRight(line, "\\`")
	for word := range strings.FieldsSeq(body) {
		if g.other {
			break
		}
		if g.other = !strings.EqualFold(word, "onbuild"); !g.other {
			g.onbuild++
		}
	}
	if body == line && g.depth <= maxNesting && g.onbuild <= maxNesting {
		*g = logicalLine{}
	}
}

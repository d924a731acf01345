package plan

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Bounds of expansion. A page of ENV A=$A$A would else be a petabyte.
const (
	maxWord  = 1 << 20  // bytes that one word may become
	maxTotal = 32 << 20 // bytes that all the words of a plan may become, or read
)

var errTooLong = errors.New("variables expand to too much text")

// expander expands variables as BuildKit does, within bounds.
type expander struct {
	words *shell.Lex
	text  *shell.Lex // for what keeps its quotes: heredocs of COPY
	shown *shell.Lex // for what is only shown: unset names stay as they are
	left  int        // bytes of maxTotal that are not used up
}

func newExpander(escape rune) *expander {
	x := &expander{words: shell.NewLex(escape), text: shell.NewLex('\\'), shown: shell.NewLex(escape), left: maxTotal}
	x.text.SkipProcessQuotes = true
	x.shown.RawQuotes, x.shown.RawEscapes, x.shown.SkipUnsetEnv = true, true, true
	return x
}

// word expands one word of an instruction.
func (x *expander) word(s string, from *variables) (string, error) {
	r, err := x.run(x.words, s, from)
	return r.Result, err
}

// matches is word, and says which names were not set.
func (x *expander) matches(s string, from *variables) (string, map[string]struct{}, error) {
	r, err := x.run(x.words, s, from)
	return r.Result, r.Unmatched, err
}

// document expands the body of a heredoc, where quotes mean nothing.
func (x *expander) document(s string, from *variables) (string, map[string]struct{}, error) {
	r, err := x.run(x.text, s, from)
	return r.Result, r.Unmatched, err
}

// split expands a word that may become several.
func (x *expander) split(s string, from *variables) ([]string, error) {
	r, err := x.run(x.words, s, from)
	if err != nil || r.Words == nil {
		return nil, err
	}
	return r.Words, nil
}

// show expands an instruction for progress. It never fails: what cannot be
// expanded is shown as written.
func (x *expander) show(s string, from *variables) string {
	r, err := x.run(x.shown, s, from)
	if err != nil {
		return s
	}
	return r.Result
}

func (x *expander) run(lex *shell.Lex, s string, from *variables) (shell.ProcessWordResult, error) {
	if len(s) <= 64 && !strings.ContainsAny(s, "$'\"\\`< \t\r\n") {
		return shell.ProcessWordResult{Result: s, Words: nonEmpty(s)}, x.spend(len(s))
	}
	limit := min(maxWord, x.left)
	if x.replaces(s, from) > limit {
		return shell.ProcessWordResult{}, errTooLong
	}
	env := &metered{variables: from, left: limit}
	r, err := lex.ProcessWordWithMatches(s, env)
	switch {
	case env.left < 0:
		return r, errTooLong
	case err != nil && strings.ContainsRune(err.Error(), unicode.ReplacementChar):
		// The lexer's words for a ${ at the end, with the end as a character.
		return r, errors.New("syntax error: missing '}'")
	case err != nil:
		// The lexer puts the whole word in front, which may be a page long
		// and is shown with the instruction anyway.
		return r, errors.New(strings.TrimPrefix(err.Error(), fmt.Sprintf("failed to process %q: ", s)))
	}
	// What was read counts as well: a pattern is matched against all of it.
	return r, x.spend(max(len(r.Result), limit-env.left))
}

// spend takes n bytes off what all expansions together may make.
func (x *expander) spend(n int) error {
	if x.left -= n; x.left < 0 {
		return errTooLong
	}
	return nil
}

// replaces bounds from above how long ${name//pattern/replacement} can make s,
// the one form whose result is longer than all it reads: each of the bytes may
// become a replacement, and replacements may be nested.
func (x *expander) replaces(s string, from *variables) int {
	total := 0
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			return total
		}
		depth, end := 0, i
		for ; end < len(rest); end++ {
			if strings.HasPrefix(rest[end:], "${") {
				depth++
			} else if rest[end] == '}' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		segment := rest[i:end]
		size := 1
		for range strings.Count(segment, "//") {
			if size *= len(segment) + from.longest; size > maxTotal {
				return size
			}
		}
		if size > 1 {
			total += size * (len(segment) + from.longest)
		}
		rest = rest[end:]
	}
}

// metered is variables as the lexer reads them, at most left bytes of values.
type metered struct {
	*variables
	left int
}

func (s *metered) Get(name string) (string, bool) {
	value, ok := s.get(name)
	if s.left -= len(value); s.left < 0 {
		return "", ok
	}
	return value, ok
}

func (s *metered) Keys() []string { return s.names() }

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

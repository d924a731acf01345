package tree

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"stagecraft/internal/oci"
)

// lineReader takes the fields of one manifest line. The first error sticks.
type lineReader struct {
	rest string
	more bool // a field follows
	err  error
}

func (r *lineReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// field is the next field as it stands.
func (r *lineReader) field() string {
	if !r.more {
		r.fail("a field is missing")
		return ""
	}
	var f string
	f, r.rest, r.more = strings.Cut(r.rest, " ")
	return f
}

// number is the next field as a number of at most limit.
func (r *lineReader) number(base int, limit uint64) uint64 {
	f := r.field()
	if len(f) > 1 && f[0] == '0' || f != "" && (f[0] < '0' || f[0] > '9') {
		r.fail("number %q is not in its short form", f)
		return 0
	}
	n, err := strconv.ParseUint(f, base, 64)
	if err != nil || n > limit {
		r.fail("number %q is out of range", f)
		return 0
	}
	return n
}

// text is the next field, unescaped.
func (r *lineReader) text() string {
	s, err := unescape(r.field(), false)
	if err != nil {
		r.fail("%w", err)
	}
	return s
}

func (r *lineReader) path() string {
	p := r.text()
	if r.err == nil && !validPath(p) {
		r.fail("path %q is not clean", p)
	}
	return p
}

// xattrs are all remaining fields.
func (r *lineReader) xattrs() map[string]string {
	if !r.more {
		return nil
	}
	m := map[string]string{}
	last := ""
	for r.more && r.err == nil {
		name, value, ok := strings.Cut(r.field(), "=")
		name, err := unescape(name, true)
		if !ok || err != nil || name <= last {
			r.fail("attribute %q is malformed or out of order", name)
			return nil
		}
		if m[name], err = unescape(value, false); err != nil {
			r.fail("%w", err)
		}
		last = name
	}
	return m
}

// maxID is the largest user or group id: one below the "no change" value.
const maxID = math.MaxUint32 - 1

func decodeEntry(line string, e *Entry) error {
	if len(line) < 3 || line[1] != ' ' {
		return fmt.Errorf("%.40q is no entry", line)
	}
	r := lineReader{rest: line[2:], more: true}
	switch e.Kind = Kind(line[0]); e.Kind {
	case KindWhiteout, KindHardlink:
		e.Path = r.path()
		if e.Kind == KindHardlink {
			e.Link = r.path()
		}
		if r.more {
			r.fail("%q has too many fields", e.Path)
		}
		return r.err
	case opaqueLetter:
		e.Kind, e.Opaque = KindDir, true
	case KindFile, KindDir, KindSymlink, KindChar, KindBlock, KindFifo:
	default:
		return fmt.Errorf("unknown kind %q", line[0])
	}
	e.Mode = uint32(r.number(8, 0o7777))
	e.UID = int(r.number(10, maxID))
	e.GID = int(r.number(10, maxID))
	e.Path = r.path()
	switch e.Kind {
	case KindFile:
		e.Size = int64(r.number(10, math.MaxInt64))
		e.Digest = oci.Digest(r.field())
		if r.err == nil && !validDigest(string(e.Digest)) {
			r.fail("%q is no sha256 digest", e.Digest)
		}
	case KindSymlink:
		if e.Link = r.text(); r.err == nil && e.Link == "" {
			r.fail("symbolic link %q without a target", e.Path)
		}
	case KindChar, KindBlock:
		e.Major = uint32(r.number(10, math.MaxUint32))
		e.Minor = uint32(r.number(10, math.MaxUint32))
	}
	e.Xattrs = r.xattrs()
	return r.err
}

func validDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 {
		return false
	}
	// Without a branch per byte: digests are half of a manifest.
	var bad byte
	for i := range len(hex) {
		bad |= notHex[hex[i]]
	}
	return bad == 0
}

// notHex is 1 for every byte that is no lower-case hex digit.
var notHex = func() (t [256]byte) {
	for i := range t {
		if strings.IndexByte(hexDigits, byte(i)) < 0 {
			t[i] = 1
		}
	}
	return t
}()

func appendNumber(b []byte, n uint64, base int) []byte {
	return append(strconv.AppendUint(b, n, base), ' ')
}

// escaped reports whether c is written as an escape.
func escaped(c byte, inName bool) bool {
	return c <= ' ' || c == '\\' || c == 0x7f || inName && c == '='
}

const hexDigits = "0123456789abcdef"

func appendEscaped(b []byte, s string, inName bool) []byte {
	for i := range len(s) {
		if c := s[i]; escaped(c, inName) {
			b = append(b, '\\', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

var errEscape = errors.New("malformed escape")

// unescape returns s itself where nothing is escaped.
func unescape(s string, inName bool) (string, error) {
	i := 0
	for i < len(s) && !escaped(s[i], inName) {
		i++
	}
	if i == len(s) {
		return s, nil
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		if !escaped(c, inName) {
			b = append(b, c)
			continue
		}
		if c != '\\' || i+2 >= len(s) {
			return "", errEscape
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if hi < 0 || lo < 0 || !escaped(byte(hi<<4|lo), inName) {
			return "", errEscape
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), nil
}

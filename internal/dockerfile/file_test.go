package dockerfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("# syntax=docker/dockerfile:1.7\n# escape=`\nARG V=1\nFROM debian:${V} AS Base\nRUN a `\n\n b\nfrom Base\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Stages) != 2 || len(f.MetaArgs) != 1 || f.Stages[0].Name != "base" {
		t.Errorf("stages %+v, meta args %+v", f.Stages, f.MetaArgs)
	}
	if f.Escape != '`' || f.Syntax != "docker/dockerfile:1.7" || f.Strict {
		t.Errorf("escape %q, syntax %q, strict %t", f.Escape, f.Syntax, f.Strict)
	}
	var rules []string
	for _, w := range f.Warnings {
		rules = append(rules, w.Rule)
	}
	if diff := cmp.Diff([]string{"NoEmptyContinuation", "StageNameCasing"}, rules); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestCheckDirective(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("# check=skip=StageNameCasing;error=true\nFROM debian AS Base\nMAINTAINER me\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !f.Strict || len(f.Warnings) != 1 || f.Warnings[0].Rule != "MaintainerDeprecated" || f.Warnings[0].Line != 3 {
		t.Errorf("strict %t, warnings %+v", f.Strict, f.Warnings)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ src, want, hint string }{
		"empty":              {"", "Dockerfile:1: the file has no instructions", "starts with FROM"},
		"only comments":      {"\n# a\n# b\n", "Dockerfile:3: the file has no instructions", "starts with FROM"},
		"only a directive":   {"# syntax=docker/dockerfile:1\n", "Dockerfile:1: the file has no instructions", "starts with FROM"},
		"no FROM":            {"\nRUN x\n", "Dockerfile:2 RUN x: there is no stage yet", "start with FROM"},
		"only ARG":           {"ARG a\nARG b\n", "Dockerfile:2: there is no stage", "add a FROM"},
		"unknown":            {"FROM a\n\nRUNN echo  hi\n", "Dockerfile:3 RUNN echo hi: unknown instruction RUNN", "did you mean RUN?"},
		"unknown, far off":   {"FROM a\nFROBNICATE\n", "Dockerfile:2 FROBNICATE: unknown instruction FROBNICATE", ""},
		"unknown flag":       {"FROM a\nCOPY --form=x a b\n", "Dockerfile:2 COPY --form=x a b: unknown flag: --form", "did you mean --from?"},
		"over lines":         {"FROM a\nCOPY --bogus \\\n a \\\n b\n", "Dockerfile:2 COPY --bogus: unknown flag: --bogus", ""},
		"heredoc":            {"FROM a\nRUN <<EOF\nx\n EOF\n", "Dockerfile:2 RUN <<EOF: unterminated heredoc: no line holds its end word alone", ""},
		"heredoc as a goal":  {"FROM a\nCOPY a <<EOF\nEOF\n", "Dockerfile:2 COPY a <<EOF: COPY cannot accept a heredoc as a destination", ""},
		"one argument":       {"FROM a\nWORKDIR\n", "Dockerfile:2 WORKDIR: WORKDIR requires exactly one argument", ""},
		"stage name":         {"FROM a AS 1x\n", `Dockerfile:1 FROM a AS 1x: invalid name for build stage: "1x", name can't start with a number or contain symbols`, ""},
		"network":            {"FROM a\nRUN --network=moon x\n", `Dockerfile:2 RUN --network=moon x: invalid network mode "moon"`, ""},
		"other syntax":       {"# syntax=example.com/dockerfile\nFROM a\n", "Dockerfile:1 # syntax=example.com/dockerfile: the Dockerfile frontend example.com/dockerfile is not supported yet", "docker/dockerfile"},
		"escape":             {"# escape=x\nFROM a\n", "Dockerfile:1 # escape=x: the escape character must be \\ or `, not \"x\"", ""},
		"escape twice":       {"# escape=\\\n# escape=`\nFROM a\n", "Dockerfile:2 # escape=`: only one escape parser directive can be used", ""},
		"check":              {"# check=bogus=1\nFROM a\n", `Dockerfile:1 # check=bogus=1: invalid check option "bogus"`, ""},
		"long line":          {"FROM a\nRUN " + strings.Repeat("x", maxLine), "Dockerfile:2: the line has 65540 bytes, more than the 65535 that are allowed", ""},
		"big":                {strings.Repeat("#\n", maxSize/2) + "FROM a", "Dockerfile: the file has 2097158 bytes, more than the 2097152 that are allowed", ""},
		"nested":             {"FROM a\nENV A=" + strings.Repeat("${a:-", 65), "Dockerfile:2: nested more than 64 deep", ""},
		"nested over lines":  {"FROM a\nENV A=" + strings.Repeat("${a:-\\\n", 65), "Dockerfile:66: nested more than 64 deep", ""},
		"nested ONBUILD":     {"FROM a\n" + strings.Repeat("ONBUILD \\\n", 65) + "RUN x", "Dockerfile:66: nested more than 64 deep", ""},
		"long instructions":  {"FROM a\nBOGUS " + strings.Repeat("x", 100), "Dockerfile:2 BOGUS " + strings.Repeat("x", 63) + "...: unknown instruction BOGUS", ""},
		"invalid characters": {"FROM a\nBOGUS \xff\x1b", "Dockerfile:2 BOGUS ??: unknown instruction BOGUS", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(c.src))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Error() != c.want {
				t.Errorf("got  %s\nwant %s", e, c.want)
			}
			if !strings.Contains(e.Hint, c.hint) || (c.hint == "") != (e.Hint == "") {
				t.Errorf("hint %q, want %q", e.Hint, c.hint)
			}
		})
	}
}

// FuzzParse holds Parse to its promise: a file with a stage, or an *Error that
// names the file and prints on one line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"FROM a\nRUN <<EOF\nx\nEOF\n", "# escape=`\nFROM a AS b\nCOPY --from=b x `\n y", "ARG a\nFROM $a",
		"FROM a\nONBUILD ONBUILD RUN x", "FROM a\nHEALTHCHECK --interval=1s CMD x", "FROM a\nADD <<a <<b /\na\nb\n",
		"\xef\xbb\xbf# syntax=docker/dockerfile:1\nFROM a", "FROM a\nENV a=\"b c\" d='e' f=g\\ h", "#!/x\n// syntax=y\nFROM a",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("F", src)
		if err == nil {
			if len(file.Stages) == 0 {
				t.Error("no stages and no error")
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%T: %v", err, err)
		}
		if e.File != "F" || e.Problem == "" || strings.Contains(e.Instruction, "\n") {
			t.Errorf("%#v", e)
		}
	})
}

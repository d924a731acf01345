package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"stagecraft/internal/graph"
)

// pipes is where the script of a RUN heredoc with a shebang is put.
const pipes = "/dev/pipes"

// addRun runs a command, in the shell form with the stage's shell.
func (b *stageBuilder) addRun(c *instructions.RunCommand) error {
	args, files, more, err := b.script(c)
	if err != nil {
		return err
	}
	if c.PrependShell {
		args = b.inShell(args)
	}
	if len(args) == 0 {
		e := b.refusef(c, "RUN has no command")
		e.Hint = "RUN command, or RUN [\"program\", \"argument\"]"
		return e
	}
	network := graph.NetworkHost
	if instructions.GetNetwork(c) == instructions.NetworkNone {
		network = graph.NetworkNone
	}
	op := &graph.Exec{
		Args:    args,
		Env:     b.env.lend(),
		Dir:     join("/", b.image.Config.WorkingDir),
		User:    b.image.Config.User,
		Network: network,
		Files:   files,
		Proxy:   b.proxy,
	}
	text, err := b.runText(args)
	if err != nil {
		return b.fail(c, err)
	}
	b.addStep(c, op, b.over(), more)
	b.commit(text, b.root)
	return nil
}

// script returns the arguments of a RUN without the shell. A heredoc that
// stands alone is the script, run by the shell or by what its shebang names;
// one that follows a command is left to the shell. Variables in it are the
// shell's.
func (b *stageBuilder) script(c *instructions.RunCommand) (args []string, files []graph.ExecFile, more string, err error) {
	if len(c.Files) == 0 {
		return c.CmdLine, nil, "", nil
	}
	if len(c.CmdLine) != 1 || !c.PrependShell {
		return nil, nil, "", b.refusef(c, "a heredoc needs the shell form of RUN")
	}
	doc, err := parser.ParseHeredoc(c.CmdLine[0])
	if err != nil {
		return nil, nil, "", b.fail(c, err)
	}
	if doc == nil {
		var whole strings.Builder
		whole.WriteString(c.CmdLine[0])
		for _, f := range c.Files {
			whole.WriteString("\n" + f.Data + f.Name)
		}
		return []string{whole.String()}, nil, "", nil
	}
	body := c.Files[0]
	if body.Chomp {
		body.Data = parser.ChompHeredocContent(body.Data)
	}
	more = " (" + summary(body.Data) + ")"
	if !strings.HasPrefix(body.Data, "#!") {
		return []string{body.Data}, nil, more, nil
	}
	name, ok := fileName(body.Name)
	if !ok {
		return nil, nil, "", b.refusef(c, "the heredoc's name %q is no file name", body.Name)
	}
	name = path.Join(pipes, name)
	return []string{name}, []graph.ExecFile{{Path: name, Mode: 0o755, Data: []byte(body.Data)}}, more, nil
}

// summary is a heredoc on one line.
func summary(doc string) string {
	first, _, more := strings.Cut(strings.TrimSpace(doc), "\n")
	if first = strings.TrimSuffix(first, "\r"); more {
		first += "..."
	}
	return first
}

// runText is the history of a RUN: its arguments, below the ARGs it sees as
// "|1 NAME=value ".
func (b *stageBuilder) runText(args []string) (string, error) {
	text := []string{"RUN"}
	if n := len(b.args.list); n > 0 {
		text = append(text, fmt.Sprintf("|%d", n))
	}
	for _, name := range b.args.names() {
		value, ok := b.env.get(name)
		if !ok {
			value, _ = b.args.get(name)
		}
		if err := b.expand.spend(len(name) + len(value) + len("= ")); err != nil {
			return "", err
		}
		text = append(text, name+"="+value)
	}
	for _, a := range args {
		if err := b.expand.spend(len(a) + len(" ")); err != nil {
			return "", err
		}
	}
	return strings.Join(append(text, args...), " "), nil
}

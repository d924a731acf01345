package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"golang.org/x/sys/unix"

	"stagecraft/internal/graph"
)

// add gives the stage's i-th instruction its meaning.
func (b *stageBuilder) add(i int, c instructions.Command) error {
	switch c := c.(type) {
	case *instructions.RunCommand:
		return b.addRun(c)
	case *instructions.CopyCommand:
		return b.addCopy(i, c)
	case *instructions.AddCommand:
		return b.addAdd(c)
	case *instructions.WorkdirCommand:
		return b.addWorkdir(c)
	case *instructions.ArgCommand:
		return b.addArg(c)
	case *instructions.EnvCommand:
		return b.addEnv(c)
	case *instructions.LabelCommand:
		return b.addLabel(c)
	case *instructions.UserCommand:
		return b.addUser(c)
	case *instructions.CmdCommand:
		b.addCmd(c)
	case *instructions.EntrypointCommand:
		b.addEntrypoint(c)
	case *instructions.ShellCommand:
		b.image.Config.Shell = c.Shell
		b.commit(fmt.Sprintf("SHELL %v", c.Shell), graph.None)
	case *instructions.HealthCheckCommand:
		b.overrides(c)
		check := *c.Health
		b.image.Config.Healthcheck = &check
		b.commit(fmt.Sprintf("HEALTHCHECK %+v", check), graph.None)
	case *instructions.ExposeCommand:
		return b.addExpose(c)
	case *instructions.VolumeCommand:
		return b.addVolume(c)
	case *instructions.StopSignalCommand:
		return b.addStopSignal(c)
	case *instructions.MaintainerCommand:
		b.image.Author = c.Maintainer
		b.commit("MAINTAINER "+c.Maintainer, graph.None)
	default:
		return b.refusef(c, "%s is not supported yet", strings.ToUpper(c.Name()))
	}
	return nil
}

func (b *stageBuilder) addEnv(c *instructions.EnvCommand) error {
	pairs, err := b.pairs(c, c.Env)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		b.env.set(p.Key, p.Value)
		b.lasting.set(p.Key, p.Value)
	}
	b.commit(pairText("ENV", pairs), graph.None)
	return nil
}

// addArg declares build arguments. A value comes from --build-arg, else from
// the instruction, else from the ARG of the same name above the first FROM.
func (b *stageBuilder) addArg(c *instructions.ArgCommand) error {
	text := []string{"ARG"}
	for _, a := range c.Args {
		b.declared[a.Key] = true
		value, known := b.o.BuildArgs[a.Key]
		if !known && a.Value != nil {
			v, err := b.word(c, *a.Value)
			if err != nil {
				return err
			}
			value, known = v, true
		} else if !known {
			value, known = b.global.get(a.Key)
		}
		// Given and global values are not expanded, so not counted yet.
		if err := b.expand.spend(len(a.Key) + len(value)); err != nil {
			return b.fail(c, err)
		}
		b.args.set(a.Key, value)
		if !known {
			text = append(text, a.Key)
			continue
		}
		text = append(text, a.Key+"="+value)
		b.setArg(a.Key, value)
	}
	b.commit(strings.Join(text, " "), graph.None)
	return nil
}

// scanArgs configure scanners of the result, and are no variables.
var scanArgs = [...]string{"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"}

// setArg makes an ARG a variable of the stage.
func (b *stageBuilder) setArg(name, value string) {
	if slices.Contains(scanArgs[:], name) {
		return
	}
	if _, ok := b.lasting.get(name); ok {
		b.hidden = append(b.hidden, name)
	}
	b.env.set(name, value)
}

func (b *stageBuilder) addLabel(c *instructions.LabelCommand) error {
	pairs, err := b.pairs(c, c.Labels)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		put(&b.sets.labels, p.Key, p.Value)
	}
	b.commit(pairText("LABEL", pairs), graph.None)
	return nil
}

// pairText is the history of ENV and LABEL.
func pairText(keyword string, pairs instructions.KeyValuePairs) string {
	text := []string{keyword}
	for _, p := range pairs {
		text = append(text, p.String())
	}
	return strings.Join(text, " ")
}

// addWorkdir sets the directory and makes it, owned by the user of the moment.
func (b *stageBuilder) addWorkdir(c *instructions.WorkdirCommand) error {
	p, err := b.word(c, c.Path)
	if err != nil {
		return err
	}
	if !b.workdir && !path.IsAbs(p) {
		b.find(c, &linter.RuleWorkdirRelativePath, linter.RuleWorkdirRelativePath.Format(p))
	}
	b.workdir = true
	dir := workdir(b.image.Config.WorkingDir, p)
	b.image.Config.WorkingDir = dir
	made := path.Clean(dir)
	if made == "/" {
		b.commit("WORKDIR "+dir, graph.None)
		return nil
	}
	op := &graph.File{
		Scratch: b.root == graph.None,
		Actions: []graph.Action{&graph.Mkdir{Path: made, Mode: 0o755, Owner: b.image.Config.User}},
	}
	b.addStep(c, op, b.over(), "")
	b.commit("WORKDIR "+dir, b.root)
	return nil
}

// workdir is what WORKDIR p makes of the current directory. Config and history
// keep an absolute path as it was written: "/app/" stays "/app/".
func workdir(current, p string) string {
	switch {
	case path.IsAbs(p):
		return p
	case p == "" && path.IsAbs(current):
		return current
	}
	return path.Join("/", current, p)
}

func (b *stageBuilder) addUser(c *instructions.UserCommand) error {
	user, err := b.word(c, c.User)
	if err != nil {
		return err
	}
	b.image.Config.User = user
	b.commit("USER "+user, graph.None)
	return nil
}

func (b *stageBuilder) addCmd(c *instructions.CmdCommand) {
	b.overrides(c)
	b.image.Config.Cmd = b.command(c, c.ShellDependantCmdLine)
	b.image.Config.ArgsEscaped = true // as docker has it: by CMD in either form, and by CMD alone
	b.commit(fmt.Sprintf("CMD %q", b.image.Config.Cmd), graph.None)
}

// addEntrypoint sets the entrypoint. A CMD that was inherited was meant for
// the inherited entrypoint, and goes with it.
func (b *stageBuilder) addEntrypoint(c *instructions.EntrypointCommand) {
	b.overrides(c)
	b.image.Config.Entrypoint = b.command(c, c.ShellDependantCmdLine)
	if b.last["cmd"] == nil {
		b.image.Config.Cmd = nil
	}
	b.commit(fmt.Sprintf("ENTRYPOINT %q", b.image.Config.Entrypoint), graph.None)
}

// command returns the arguments of CMD and ENTRYPOINT in either form.
func (b *stageBuilder) command(c instructions.Command, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	if len(b.image.Config.Shell) == 0 {
		b.find(c, &linter.RuleJSONArgsRecommended, linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
	return b.inShell(line.CmdLine)
}

// inShell makes arguments one command of the stage's shell.
func (b *stageBuilder) inShell(args []string) []string {
	shell := b.image.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(shell[:len(shell):len(shell)], strings.Join(args, " "))
}

func (b *stageBuilder) addVolume(c *instructions.VolumeCommand) error {
	volumes, err := b.wordsOf(c, c.Volumes)
	if err != nil {
		return err
	}
	for i, v := range volumes {
		if v == "" {
			return b.refusef(c, "the volume %s is empty", c.Volumes[i])
		}
		put(&b.sets.volumes, v, struct{}{})
	}
	b.commit(fmt.Sprintf("VOLUME %v", volumes), graph.None)
	return nil
}

func (b *stageBuilder) addStopSignal(c *instructions.StopSignalCommand) error {
	name, err := b.word(c, c.Signal)
	if err != nil {
		return err
	}
	if !isSignal(name) {
		e := b.refusef(c, "there is no signal %q", name)
		e.Hint = "a name such as SIGTERM, or a number"
		return e
	}
	b.image.Config.StopSignal = name
	b.commit("STOPSIGNAL "+name, graph.None)
	return nil
}

// maxSignal is SIGRTMAX.
const maxSignal = 64

// aliases are second names of signals.
var aliases = [...]string{"SIGCLD", "SIGIOT", "SIGPOLL"}

// isSignal takes what docker takes: a number, or a name with or without SIG.
func isSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n > 0 && n <= maxSignal
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if offset, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		return realtime(offset, "+", 15)
	}
	if offset, ok := strings.CutPrefix(name, "SIGRTMAX"); ok {
		return realtime(offset, "-", 14)
	}
	return slices.Contains(aliases[:], name) || unix.SignalNum(name) != 0
}

// realtime reads the offset of SIGRTMIN+n and SIGRTMAX-n, which have names up
// to most.
func realtime(offset, sign string, most uint64) bool {
	if offset == "" {
		return true
	}
	digits, ok := strings.CutPrefix(offset, sign)
	n, err := strconv.ParseUint(digits, 10, 8)
	return ok && err == nil && n > 0 && n <= most
}

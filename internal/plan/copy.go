package plan

import (
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"stagecraft/internal/graph"
)

// transfer is what COPY and ADD have in common.
type transfer struct {
	c     instructions.Command
	files instructions.SourcesAndDest
	chown string
	chmod string
	from  *origin // nil is the build context
}

func (b *stageBuilder) addCopy(i int, c *instructions.CopyCommand) error {
	return b.addTransfer(transfer{c: c, files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, from: b.stage.copies[i]}, "COPY", false)
}

// addAdd copies as COPY does, and unpacks local archives.
func (b *stageBuilder) addAdd(c *instructions.AddCommand) error {
	return b.addTransfer(transfer{c: c, files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod}, "ADD", true)
}

func (b *stageBuilder) addTransfer(t transfer, keyword string, extract bool) error {
	text := []string{keyword}
	owner, err := b.word(t.c, t.chown)
	if err != nil {
		return err
	}
	if owner != "" {
		text = append(text, "--chown="+owner)
	}
	chmod, err := b.word(t.c, t.chmod)
	if err != nil {
		return err
	}
	if chmod != "" {
		text = append(text, "--chmod="+chmod)
	}
	mode, err := b.mode(t.c, chmod)
	if err != nil {
		return err
	}
	sources, err := b.wordsOf(t.c, t.files.SourcePaths)
	if err != nil {
		return err
	}
	if err := b.refuseRemote(t.c, sources); err != nil {
		return err
	}
	given, err := b.word(t.c, t.files.DestPath)
	if err != nil {
		return err
	}
	dest := b.destination(given)
	inputs := b.over()
	var actions []graph.Action
	if len(sources) > 0 {
		inputs = append(inputs, b.sourceRoot(t.from))
		a := &graph.Copy{From: len(inputs) - 1, Dest: dest, Owner: owner, Mode: mode, Extract: extract}
		for _, s := range sources {
			a.Sources = append(a.Sources, relative(s))
		}
		actions = append(actions, a)
		text = append(text, sources...)
	}
	for _, doc := range t.files.SourceContents {
		text = append(text, "<<"+doc.Path)
		a, err := b.mkfile(t.c, doc, dest, owner, mode)
		if err != nil {
			return err
		}
		actions = append(actions, a)
	}
	b.addStep(t.c, &graph.File{Scratch: b.root == graph.None, Actions: actions}, inputs, "")
	b.commit(strings.Join(append(text, given), " "), b.root)
	return nil
}

// sourceRoot returns the vertex that a COPY reads from.
func (b *stageBuilder) sourceRoot(from *origin) graph.ID {
	if from == nil {
		return b.localRoot(mainContext)
	}
	return b.rootOf(from, "")
}

// mode reads --chmod; "" is none.
func (b *stageBuilder) mode(c instructions.Command, s string) (*uint32, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err == nil && n <= 0o7777 {
		mode := uint32(n)
		return &mode, nil
	}
	if strings.Trim(s, "0123456789") != "" {
		e := b.refusef(c, "--chmod=%s: a symbolic mode is not supported yet", s)
		e.Hint = "use octal digits, such as --chmod=755"
		return nil, e
	}
	e := b.refusef(c, "--chmod=%s: not an octal mode", s)
	e.Hint = "a mode is between 0 and 07777"
	return nil, e
}

// mkfile makes the file that a heredoc holds.
func (b *stageBuilder) mkfile(c instructions.Command, doc instructions.SourceContent, dest, owner string, mode *uint32) (graph.Action, error) {
	name, ok := fileName(doc.Path)
	if !ok {
		return nil, b.refusef(c, "the heredoc's name %q is no file name", doc.Path)
	}
	a := &graph.Mkfile{Dest: dest, Name: name, Mode: 0o644, Owner: owner}
	if mode != nil {
		a.Mode = *mode
	}
	data := doc.Data
	if doc.Expand {
		expanded, unset, err := b.expand.document(data, b.env)
		if err != nil {
			return nil, b.fail(c, err)
		}
		b.undefined(c, unset)
		data = expanded
	}
	a.Data = []byte(data)
	return a, nil
}

// destination makes a destination absolute. What it says about being a
// directory stays: "dir/", "dir/." and "." end in a slash.
func (b *stageBuilder) destination(p string) string {
	dest := join(b.image.Config.WorkingDir, p)
	last := path.Base(p)
	if strings.HasSuffix(p, "/") || last == "." || last == ".." {
		dest = strings.TrimSuffix(dest, "/") + "/"
	}
	return dest
}

// relative makes a source relative to its root, and keeps it below.
func relative(source string) string {
	if p := strings.TrimPrefix(path.Clean("/"+source), "/"); p != "" {
		return p
	}
	return "."
}

// fileName is the last part of a heredoc's name, which may be any path.
func fileName(name string) (string, bool) {
	base := path.Base(path.Clean("/" + name))
	return base, base != "/"
}

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"stagecraft/internal/cache"
	"stagecraft/internal/plan"
	"stagecraft/internal/tree"
)

// mainContext is the name of the build context among the named ones.
const mainContext = "context"

// inputs are the directories that a build reads: the context and the named ones.
// They are opened on first use.
type inputs struct {
	named map[string]plan.Context
	dirs  map[string]*localDir
	store *cache.Store
}

type localDir struct {
	dir    string
	ignore string // path of the ignore file, "" for none
	once   sync.Once
	ctx    *tree.Context
	hashes *tree.HashCache
	err    error
}

func (b *Builder) openInputs(req Request, dockerfilePath string) (*inputs, error) {
	in := &inputs{
		named: map[string]plan.Context{},
		dirs:  map[string]*localDir{mainContext: {dir: req.ContextDir, ignore: ignoreFile(req.ContextDir, dockerfilePath)}},
		store: b.Store,
	}
	for name, spec := range req.Contexts {
		scheme, _, hasScheme := strings.Cut(spec, "://")
		switch {
		case strings.HasPrefix(spec, "oci-layout://"):
			in.named[name] = plan.Context{Image: name + "=" + spec}
		case hasScheme:
			return nil, &Failure{Kind: BadInput, Where: "--build-context " + name + "=" + spec,
				Err: errors.New(scheme + " contexts are not supported yet"), Hint: "use oci-layout://DIR[:TAG] or a directory"}
		default:
			if info, err := os.Stat(spec); err != nil || !info.IsDir() {
				if err == nil {
					err = errors.New("not a directory")
				}
				return nil, &Failure{Kind: BadInput, Where: "--build-context " + name + "=" + spec,
					Err: unwrapPath(err), Hint: "name a directory, or an image layout as oci-layout://DIR[:TAG]"}
			}
			in.named[name] = plan.Context{Local: true}
			in.dirs[name] = &localDir{dir: spec, ignore: existing(filepath.Join(spec, ".dockerignore"))}
		}
	}
	return in, nil
}

// ignoreFile is <Dockerfile>.dockerignore beside the Dockerfile, else
// .dockerignore of the context, as in the reference.
func ignoreFile(dir, dockerfilePath string) string {
	if own := existing(dockerfilePath + ".dockerignore"); own != "" {
		return own
	}
	return existing(filepath.Join(dir, ".dockerignore"))
}

func existing(path string) string {
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return ""
	}
	return path
}

// local opens the directory of that name.
func (in *inputs) local(name string) (*tree.Context, error) {
	d := in.dirs[name]
	d.once.Do(func() { d.err = d.open(in.store) })
	return d.ctx, d.err
}

func (d *localDir) open(store interface{ ContextPath(dir string) string }) error {
	var o tree.ContextOptions
	if d.ignore != "" {
		f, err := os.Open(d.ignore)
		if err != nil {
			return &Failure{Kind: BadInput, Where: d.ignore, Err: unwrapPath(err)}
		}
		defer f.Close()
		if o.Ignore, err = tree.ParseIgnore(f); err != nil {
			return &Failure{Kind: BadInput, Where: d.ignore, Err: err, Hint: "correct the pattern"}
		}
	}
	dir, err := filepath.Abs(d.dir)
	if err != nil {
		return err
	}
	if d.hashes, err = tree.LoadHashCache(store.ContextPath(dir)); err != nil {
		return err
	}
	o.Hashes = d.hashes
	d.ctx, err = tree.OpenContext(dir, o)
	return err
}

// dir is the directory of that name, as the user gave it.
func (in *inputs) dir(name string) string { return in.dirs[name].dir }

// hiddenBy names the line of an ignore file that hides a path of a directory
// which has it.
func (in *inputs) hiddenBy(name, path string) (string, bool) {
	d := in.dirs[name]
	if _, err := os.Lstat(filepath.Join(d.dir, path)); err != nil || d.ctx == nil || d.ctx.Ignore() == nil {
		return "", false
	}
	rule, ok := d.ctx.Ignore().Rule(path)
	return fmt.Sprintf("line %d of %s, %q,", rule.Line, filepath.Base(d.ignore), rule.Pattern), ok
}

// saveHashes keeps what was hashed for the next build; that it cannot be kept
// only makes that one slower.
func (in *inputs) saveHashes() {
	for _, d := range in.dirs {
		if d.hashes != nil {
			d.hashes.Save() //nolint:errcheck
		}
	}
}

func (in *inputs) close() {
	for _, d := range in.dirs {
		if d.ctx != nil {
			d.ctx.Close()
		}
	}
}

// unwrapPath drops the path from a file system error: the message around it has
// said it.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// validateTar checks that a layer tar is what an honest builder writes: clean
// relative names, each once, directories before their content, hard links to
// earlier files, whiteouts as the specification has them, nothing after the end
// mark. It reads r to its end.
//
// https://github.com/opencontainers/image-spec/blob/main/layer.md
func validateTar(r io.Reader) error {
	end := &tailReader{r: r}
	r = end
	v := tarValidator{kinds: map[string]byte{}, parents: map[string]bool{}}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w", len(v.kinds), err)
		}
		if err := v.entry(h); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	rest := make([]byte, 32<<10)
	zeros := make([]byte, len(rest))
	for {
		n, err := r.Read(rest)
		if !bytes.Equal(rest[:n], zeros[:n]) {
			return errors.New("there are bytes after the end mark")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(end.tail, zeros[:endMark]) {
		return errors.New("there is no end mark")
	}
	return nil
}

// endMark is the length in bytes of the two zero blocks that end a tar.
const endMark = 1024

// tailReader remembers the last endMark bytes that it passed on.
type tailReader struct {
	r    io.Reader
	tail []byte
}

func (t *tailReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.tail = append(t.tail, p[max(0, n-endMark):n]...)
	if extra := len(t.tail) - endMark; extra > 0 {
		t.tail = append(t.tail[:0], t.tail[extra:]...)
	}
	return n, err
}

type tarValidator struct {
	kinds   map[string]byte // type flags of what came, by clean name; whiteouts under the name they hide
	parents map[string]bool // directories below which something came
}

func (v *tarValidator) entry(h *tar.Header) error {
	name := strings.TrimPrefix(strings.TrimSuffix(h.Name, "/"), "./")
	if name == "" || name == "." {
		name = "."
	} else if !cleanName(name) {
		return errors.New("the name is not a clean relative path")
	}
	if err := v.header(h); err != nil {
		return err
	}
	kind := h.Typeflag
	base := path.Base(name)
	if base == ".wh..wh..opq" {
		return v.put(name, 'o')
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		if hidden == "" || strings.HasPrefix(hidden, ".wh.") || kind != tar.TypeReg || h.Size != 0 {
			return errors.New("not a whiteout as the specification has it")
		}
		kind, name = 'w', path.Join(path.Dir(name), hidden)
	}
	if kind == tar.TypeDir && v.parents[name] {
		return errors.New("the directory comes after its content")
	}
	return v.put(name, kind)
}

// put notes an entry, whose name must be new and below directories only.
func (v *tarValidator) put(name string, kind byte) error {
	if _, ok := v.kinds[name]; ok {
		return errors.New("the name is there already, or hidden by a whiteout of the same layer")
	}
	v.kinds[name] = kind
	for dir := path.Dir(name); name != "." && !v.parents[dir]; dir = path.Dir(dir) {
		if k, ok := v.kinds[dir]; ok && k != tar.TypeDir {
			return fmt.Errorf("it lies below %q, which is no directory", dir)
		}
		v.parents[dir] = true
		if dir == "." {
			break
		}
	}
	return nil
}

func (v *tarValidator) header(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeLink:
		target := strings.TrimPrefix(h.Linkname, "./")
		if k, ok := v.kinds[target]; !cleanName(target) || !ok || k == tar.TypeDir || k == 'w' {
			return fmt.Errorf("a hard link to %q, which is no earlier file of the layer", h.Linkname)
		}
	default:
		return fmt.Errorf("type %q is no file of a layer", h.Typeflag)
	}
	if h.Mode&^0o177777 != 0 || h.Uid < 0 || h.Gid < 0 {
		return fmt.Errorf("mode %o, owner %d:%d", h.Mode, h.Uid, h.Gid)
	}
	for key := range h.PAXRecords {
		attr := strings.TrimPrefix(key, "SCHILY.xattr.")
		if strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") {
			return fmt.Errorf("extended attribute %q belongs to the overlay file system", attr)
		}
	}
	return nil
}

// cleanName reports whether a name is relative, stays in its root, and is
// written in the shortest way.
func cleanName(name string) bool {
	return name != "" && name != ".." && path.Clean(name) == name &&
		!strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "../")
}

package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// inOwnNamespace runs f on a thread with a mount namespace of its own; the
// thread and all its mounts end with it.
func inOwnNamespace(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread dies
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	check(t, <-done)
}

// list describes a tree on disk as the view should see it.
func list(root string) (map[string]string, error) {
	out := map[string]string{}
	return out, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err == unix.ENOENT && p != root {
			return nil // overlay lists a whiteout where there is nothing to hide
		} else if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		e := entryOf(rel, &st)
		var content []byte
		switch e.Kind {
		case KindFile:
			if content, err = os.ReadFile(p); err != nil {
				return err
			}
		case KindSymlink:
			if e.Link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		out[rel] = fmt.Sprintf("%c %o %d:%d %d %q %x", e.Kind, e.Mode, e.UID, e.GID, e.Size, e.Link, content)
		return nil
	})
}

// listView describes a view in the same words.
func listView(t testing.TB, v *View) map[string]string {
	t.Helper()
	out := map[string]string{}
	last := ""
	check(t, v.Walk(".", func(n *Node) error {
		if last != "" && ComparePaths(last, n.Path) >= 0 {
			t.Errorf("walk: %q after %q", n.Path, last)
		}
		last = n.Path
		var content []byte
		if n.Kind == KindFile {
			f, err := v.Open(n)
			if err != nil {
				return err
			}
			defer f.Close()
			if content, err = io.ReadAll(f); err != nil {
				return err
			}
		}
		found, err := v.Lookup(n.Path)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(n.Entry, found.Entry); diff != "" {
			t.Errorf("lookup of %q differs from walk: %s", n.Path, diff)
		}
		out[n.Path] = fmt.Sprintf("%c %o %d:%d %d %q %x", n.Kind, n.Mode, n.UID, n.GID, n.Size, n.Link, content)
		return nil
	}))
	return out
}

// mountStack mounts layer directories, lowest first, and runs f on the root.
func mountStack(t testing.TB, dirs []string, f func(root string) error) {
	t.Helper()
	root, empty := t.TempDir(), t.TempDir()
	check(t, os.Chmod(empty, 0o755))
	inOwnNamespace(t, func() error {
		lower := empty
		for _, d := range dirs {
			lower = d + ":" + lower
		}
		if err := unix.Mount("overlay", root, "overlay", unix.MS_RDONLY, "index=off,redirect_dir=off,metacopy=off,lowerdir="+lower); err != nil {
			return fmt.Errorf("mount overlay: %w", err)
		}
		defer unix.Unmount(root, unix.MNT_DETACH)
		return f(root)
	})
}

func TestViewIsWhatOverlayShows(t *testing.T) {
	for seed := range uint64(25) {
		var layers []Layer
		var dirs []string
		for i := range 1 + seed%4 {
			dir := newRandomLayer(t, seed*10+i, i > 0)
			dirs = append(dirs, dir)
			layers = append(layers, Layer{dir, scan(t, dir)})
		}
		var want map[string]string
		mountStack(t, dirs, func(root string) (err error) {
			want, err = list(root)
			return err
		})
		v := NewView(layers)
		got := listView(t, v)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: view differs from overlay (-overlay +view):\n%s", seed, diff)
		}
		for p := range want {
			if _, err := v.Lookup(p + "/missing"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("lookup of %q: %v", p+"/missing", err)
			}
		}
	}
}

func TestViewWithoutLayersIsAnEmptyRoot(t *testing.T) {
	v := NewView(nil)
	nodes, err := v.ReadDir("/")
	if err != nil || len(nodes) != 0 {
		t.Errorf("ReadDir: %v, %v", nodes, err)
	}
	if _, err := v.Lookup("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestResolveStaysInside(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/b", "usr/lib"} {
		check(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(dir, "usr/lib/f"), nil, 0o644))
	for name, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib", "up": "../../../usr", "a/b/up": "../../../../lib/f",
		"loop": "loop2", "loop2": "/loop", "dangling": "/new/file", "a/self": ".", "chain": "abs/../../lib",
	} {
		check(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	v := NewView([]Layer{{dir, scan(t, dir)}})
	c, err := OpenContext(dir, ContextOptions{})
	check(t, err)
	defer c.Close()
	for _, test := range []struct {
		path   string
		follow bool
		want   string
		err    error
	}{
		{"/", true, ".", nil},
		{"", true, ".", nil},
		{"../..", true, ".", nil},
		{"lib/f", true, "usr/lib/f", nil},
		{"lib", true, "usr/lib", nil},
		{"lib", false, "lib", nil},
		{"lib/", true, "usr/lib", nil},
		{"abs/f", false, "usr/lib/f", nil},
		{"up/lib/./f", true, "usr/lib/f", nil},
		{"a/b/up", true, "usr/lib/f", nil},
		{"a/self/self/b", true, "a/b", nil},
		{"chain/f", true, "usr/lib/f", nil},
		{"dangling", true, "new/file", fs.ErrNotExist},
		{"dangling/x/../y", true, "new/file/y", fs.ErrNotExist},
		{"missing/../lib/f", true, "usr/lib/f", nil},
		{"lib/x", true, "usr/lib/x", fs.ErrNotExist},
		{"lib/f/x", true, "usr/lib/f/x", fs.ErrNotExist},
		{"loop", true, "", unix.ELOOP},
		{"loop/x", false, "", unix.ELOOP},
	} {
		for name, s := range map[string]Source{"view": v, "context": c} {
			got, n, err := s.Resolve(test.path, test.follow)
			if got != test.want || !errors.Is(err, test.err) || err == nil && n.Path != test.want {
				t.Errorf("%s: Resolve(%q, %t) = %q, %v; want %q, %v", name, test.path, test.follow, got, err, test.want, test.err)
			}
		}
	}
}

func TestOpenNeverFollowsSymlinks(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "d/f"), []byte("x"), 0o644))
	v := NewView([]Layer{{dir, scan(t, dir)}})
	c, err := OpenContext(dir, ContextOptions{})
	check(t, err)
	defer c.Close()
	for _, s := range []Source{v, c} {
		n, err := s.Lookup("d/f")
		check(t, err)
		f, err := s.Open(n)
		check(t, err)
		check(t, f.Close())
		outside := t.TempDir()
		check(t, os.WriteFile(filepath.Join(outside, "f"), []byte("y"), 0o644))
		check(t, os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "real")))
		check(t, os.Symlink(outside, filepath.Join(dir, "d")))
		if f, err := s.Open(n); err == nil {
			t.Errorf("%T: opened through a symlink: %v", s, f.Name())
		} else if strings.Contains(err.Error(), "no such file") {
			t.Errorf("%T: %v", s, err)
		}
		check(t, os.Remove(filepath.Join(dir, "d")))
		check(t, os.Rename(filepath.Join(dir, "real"), filepath.Join(dir, "d")))
	}
}

// The kernel does not look at the mark of a layer's root, the view does: who
// mounts must leave out the layers below it.
func TestOpaqueRoot(t *testing.T) {
	below, top := makeTree(t, "a"), makeTree(t, "b")
	check(t, unix.Setxattr(top, "trusted.overlay.opaque", []byte("y"), 0))
	v := NewView([]Layer{layerOf(t, below), layerOf(t, top)})
	if diff := cmp.Diff([]string{"b="}, describe(t, v)); diff != "" {
		t.Errorf("view: %s", diff)
	}
	mountStack(t, []string{below, top}, func(root string) error {
		names, err := os.ReadDir(root)
		if err == nil && len(names) != 2 {
			err = fmt.Errorf("overlay shows %v", names)
		}
		return err
	})
}

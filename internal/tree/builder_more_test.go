package tree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

func TestBuilderMkdirAndWriteFile(t *testing.T) {
	base := []Layer{layerOf(t, makeTree(t, "run/ var/run>/run srv/x:600 old/:700:1:2"))}
	v, _, err := build(t, base, func(b *Builder) error {
		return errors.Join(
			b.Mkdir("/var/run/app/data", 0o750, &Owner{7, 7}),
			b.Mkdir("/old", 0o755, &Owner{7, 7}),
			b.WriteFile("/srv/", "a", []byte("1"), 0o644, nil),
			b.WriteFile("/srv/b", "ignored", []byte("2"), 0o755, &Owner{1, 1}),
			b.WriteFile("/srv/x", "x", []byte("3"), 0o644, nil),
			b.WriteFile("/new/dir/", "c", nil, 0o644, &Owner{2, 2}),
			b.WriteFile("/srv/a", "a", []byte("again"), 0o600, nil),
		)
	})
	check(t, err)
	want := strings.Fields("new/:755:2:2 new/dir/:755:2:2 new/dir/c=:644:2:2 old/:700:1:2 run/ run/app/:750:7:7 run/app/data/:750:7:7 " +
		"srv/ srv/a=again:600 srv/b=2:755:1:1 srv/x=3 var/ var/run>/run")
	if diff := cmp.Diff(want, describe(t, v)); diff != "" {
		t.Error(diff)
	}
	for _, f := range []func(b *Builder) error{
		func(b *Builder) error { return b.Mkdir("/srv/x", 0o755, nil) },
		func(b *Builder) error { return b.Mkdir("/srv/x/y", 0o755, nil) },
		func(b *Builder) error { return b.WriteFile("/srv/x/", "y", nil, 0o644, nil) },
	} {
		if _, _, err := build(t, base, f); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("got %v, want ENOTDIR", err)
		}
	}
}

func TestBuilderWritesNothingForWhatExists(t *testing.T) {
	base := []Layer{layerOf(t, makeTree(t, "app/"))}
	_, m, err := build(t, base, func(b *Builder) error { return b.Mkdir("app", 0o700, nil) })
	check(t, err)
	if len(m.Entries) != 1 {
		t.Errorf("entries: %+v", m.Entries)
	}
}

func TestBuilderRepeatsParentsOfTheBase(t *testing.T) {
	dir := makeTree(t, "a/:711:5:6 a/b/:1777 a/keep")
	check(t, unix.Setxattr(filepath.Join(dir, "a"), "user.k", []byte("v"), 0))
	old := time.Unix(1e9, 5)
	check(t, os.Chtimes(filepath.Join(dir, "a"), old, old))
	v, m, err := build(t, []Layer{layerOf(t, dir)}, func(b *Builder) error { return b.WriteFile("/a/b/f", "f", nil, 0o644, nil) })
	check(t, err)
	want := []Entry{
		{Path: ".", Kind: KindDir, Mode: 0o755},
		{Path: "a", Kind: KindDir, Mode: 0o711, UID: 5, GID: 6, Xattrs: map[string]string{"user.k": "v"}},
		{Path: "a/b", Kind: KindDir, Mode: 0o1777},
		{Path: "a/b/f", Kind: KindFile, Mode: 0o644, Digest: digestBytes(nil)},
	}
	if diff := cmp.Diff(want, m.Entries); diff != "" {
		t.Error(diff)
	}
	fi, err := os.Stat(filepath.Join(v.layers[1].Dir, "a"))
	check(t, err)
	if !fi.ModTime().Equal(old) {
		t.Errorf("a is dated %v", fi.ModTime())
	}
}

func compressors(t *testing.T) map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"plain": func(b []byte) []byte { return b },
		"gzip": func(b []byte) []byte {
			var out bytes.Buffer
			w := gzip.NewWriter(&out)
			_, err := w.Write(b)
			check(t, errors.Join(err, w.Close()))
			return out.Bytes()
		},
		"xz": func(b []byte) []byte {
			var out bytes.Buffer
			w, err := xz.NewWriter(&out)
			check(t, err)
			_, err = w.Write(b)
			check(t, errors.Join(err, w.Close()))
			return out.Bytes()
		},
		"zstd": func(b []byte) []byte {
			w, err := zstd.NewWriter(nil)
			check(t, err)
			return w.EncodeAll(b, nil)
		},
	}
}

func TestAddExtractsByContent(t *testing.T) {
	b := tarOf(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "./lib/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 3},
		tar.Header{Name: "./lib/x", Mode: 0o644, Uid: 3, Size: 1},
		tar.Header{Name: "bin/tool", Mode: 0o755},
		tar.Header{Name: "bin/alias", Typeflag: tar.TypeLink, Linkname: "bin/tool"},
		tar.Header{Name: "f", Mode: 0o644},
		tar.Header{Name: "d", Mode: 0o644},
	)
	for name, compress := range compressors(t) {
		dir := makeTree(t, "")
		check(t, os.WriteFile(filepath.Join(dir, "archive"), compress(b), 0o644))
		check(t, os.WriteFile(filepath.Join(dir, "fake.tar.gz"), []byte("\x1f\x8b\x08 no"), 0o644))
		src := NewView([]Layer{layerOf(t, dir)})
		base := []Layer{layerOf(t, makeTree(t, "r/usr/lib/y r/lib>/usr/lib r/f>keep r/keep r/d/gone r/bin/old"))}
		v, _, err := build(t, base, func(b *Builder) error {
			s, err := Select(t.Context(), src, CopyOptions{Sources: []string{"archive", "fake.tar.gz"}, Dest: "/r/", Extract: true})
			check(t, err)
			return b.Copy(s)
		})
		check(t, err)
		// The archive's directory lib replaces the symlink, as it names it itself.
		want := strings.Split("r/|r/bin/|r/bin/alias=:755|r/bin/old=|r/bin/tool=:755|r/d=|r/f=|r/fake.tar.gz=\x1f\x8b\x08 no|r/keep=|"+
			"r/lib/:750:3:0|r/lib/x=\x00:644:3:0|r/usr/|r/usr/lib/|r/usr/lib/y=", "|")
		if diff := cmp.Diff(want, describe(t, v)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAddFollowsSymlinksInsideTheDestination(t *testing.T) {
	dir := makeTree(t, "")
	b := tarOf(t, tar.Header{Name: "lib/x", Mode: 0o644}, tar.Header{Name: "up/y", Mode: 0o644})
	check(t, os.WriteFile(filepath.Join(dir, "a.tar"), b, 0o644))
	base := []Layer{layerOf(t, makeTree(t, "usr/lib/ r/lib>/usr/lib r/up>../../../etc"))}
	v, _, err := build(t, base, func(b *Builder) error {
		s, err := Select(t.Context(), NewView([]Layer{layerOf(t, dir)}), CopyOptions{Sources: []string{"a.tar"}, Dest: "r", Extract: true, Owner: &Owner{9, 9}})
		check(t, err)
		return b.Copy(s)
	})
	check(t, err)
	want := strings.Fields("r/ r/etc/ r/etc/y=:644:11:11 r/lib>/usr/lib r/up>../../../etc r/usr/ r/usr/lib/ r/usr/lib/x=:644:11:11 usr/ usr/lib/")
	if diff := cmp.Diff(want, describe(t, v)); diff != "" {
		t.Error(diff)
	}
}

func TestAddRefusesHostileArchives(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"path up":   {Name: "../x"},
		"hard link": {Name: "x", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"},
		"device":    {Name: "x", Typeflag: tar.TypeBlock, Devmajor: 8},
	} {
		dir := makeTree(t, "")
		check(t, os.WriteFile(filepath.Join(dir, "a.tar"), tarOf(t, h), 0o644))
		_, _, err := build(t, nil, func(b *Builder) error {
			s, err := Select(t.Context(), NewView([]Layer{layerOf(t, dir)}), CopyOptions{Sources: []string{"a.tar"}, Dest: "/r/", Extract: true})
			check(t, err)
			return b.Copy(s)
		})
		var hostile *HostileError
		if !errors.As(err, &hostile) {
			t.Errorf("%s: got %v, want a HostileError", name, err)
		}
	}
}

func TestCopyRefusesChangedContext(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"content": func(p string) error { return os.WriteFile(p, []byte("22"), 0o644) },
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("11"), 0o644), os.Rename(p+"2", p))
		},
		"symlink": func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"fifo":    func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) },
		"removed": os.Remove,
	} {
		dir := makeTree(t, "d/f=11")
		time.Sleep(20 * time.Millisecond)
		c, err := OpenContext(dir, ContextOptions{})
		check(t, err)
		s, err := Select(t.Context(), c, CopyOptions{Sources: []string{"d"}, Dest: "n"})
		check(t, err)
		check(t, change(filepath.Join(dir, "d/f")))
		b, err := OpenBuilder(t.Context(), nil, t.TempDir())
		check(t, err)
		err = b.Copy(s)
		if err == nil {
			_, err = b.Finish()
		}
		if err == nil {
			t.Errorf("%s: copied all the same", name)
		}
		b.Close()
		check(t, c.Close())
	}
}

func TestContextEntersAsRoot(t *testing.T) {
	dir := makeTree(t, "f=1:4755:5:6 d/:700:5:6 d/g:640:7:8")
	check(t, unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0))
	check(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	check(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	c, err := OpenContext(dir, ContextOptions{})
	check(t, err)
	defer c.Close()
	v, _, err := build(t, nil, func(b *Builder) error {
		s, err := Select(t.Context(), c, CopyOptions{Sources: []string{"."}, Dest: "/"})
		check(t, err)
		return b.Copy(s)
	})
	check(t, err)
	want := strings.Fields("d/:700 d/g=:640 f=1:4755 null?c pipe?p")
	if diff := cmp.Diff(want, describe(t, v)); diff != "" {
		t.Error(diff)
	}
}

func TestCopyOfLargeAndSparseFiles(t *testing.T) {
	dir := makeTree(t, "")
	big := bytes.Repeat([]byte("0123456789abcdef"), smallFile/8)
	check(t, os.WriteFile(filepath.Join(dir, "big"), big, 0o644))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	check(t, err)
	_, err = f.WriteAt([]byte("middle"), 5<<20)
	check(t, errors.Join(err, f.Truncate(9<<20), f.Close()))
	m := scan(t, dir)
	c, err := OpenContext(dir, ContextOptions{})
	check(t, err)
	defer c.Close()
	for _, src := range []Source{NewView([]Layer{{dir, m}}), c} {
		v, got, err := build(t, nil, func(b *Builder) error {
			s, err := Select(t.Context(), src, CopyOptions{Sources: []string{"/"}, Dest: "/"})
			check(t, err)
			return b.Copy(s)
		})
		check(t, err)
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%T: %s", src, diff)
		}
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(v.layers[0].Dir, "sparse"), &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("%T: sparse file takes %d bytes", src, st.Blocks*512)
		}
	}
}

func TestCancelEndsTheWork(t *testing.T) {
	dir := manyFiles(t, 500)
	m := scan(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: %v", err)
	}
	if err := WriteTar(ctx, &bytes.Buffer{}, dir, m); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteTar: %v", err)
	}
	var b bytes.Buffer
	check(t, WriteTar(t.Context(), &b, dir, m))
	if _, err := Extract(ctx, &b, t.TempDir(), ExtractOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Extract: %v", err)
	}
	v := NewView([]Layer{{dir, m}})
	s, err := Select(t.Context(), v, CopyOptions{Sources: []string{"/"}, Dest: "/"})
	check(t, err)
	builder, err := OpenBuilder(ctx, nil, t.TempDir())
	check(t, err)
	defer builder.Close()
	if err := builder.Copy(s); !errors.Is(err, context.Canceled) {
		t.Errorf("Copy: %v", err)
	}
}

// A link that the file system refuses becomes a copy, with the source's times.
func TestLinkAcrossFileSystemsCopies(t *testing.T) {
	dir := makeTree(t, "d/f=1:640:2:3")
	old := time.Unix(1234567890, 5)
	check(t, os.Chtimes(filepath.Join(dir, "d/f"), old, old))
	m := scan(t, dir)
	mnt := t.TempDir()
	inOwnNamespace(t, func() error {
		if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		defer unix.Unmount(mnt, unix.MNT_DETACH)
		s, err := Select(t.Context(), NewView([]Layer{{dir, m}}), CopyOptions{Sources: []string{"/"}, Dest: "/", Link: true})
		if err != nil {
			return err
		}
		b, err := OpenBuilder(t.Context(), nil, mnt)
		if err != nil {
			return err
		}
		defer b.Close()
		if err := b.Copy(s); err != nil {
			return err
		}
		got, err := b.Finish()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Error(diff)
		}
		fi, err := os.Stat(filepath.Join(mnt, "d/f"))
		if err == nil && !fi.ModTime().Equal(old) {
			t.Errorf("dated %v", fi.ModTime())
		}
		return err
	})
}

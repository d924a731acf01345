package tree

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// manyFiles is a tree of n small files, 100 to a directory.
func manyFiles(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%04d", i/100))
		if i%100 == 0 {
			check(t, os.Mkdir(d, 0o755))
		}
		data := bytes.Repeat([]byte(fmt.Sprintf("file %d\n", i)), 1+i%200)
		check(t, os.WriteFile(filepath.Join(d, fmt.Sprintf("f%05d.js", i)), data, 0o644))
	}
	return dir
}

const benchFiles = 20000

func BenchmarkScan(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	for b.Loop() {
		scan(b, dir)
	}
}

func BenchmarkWriteTar(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	m := scan(b, dir)
	for b.Loop() {
		check(b, WriteTar(b.Context(), io.Discard, dir, m))
	}
}

// Nothing is removed between the rounds: ext4 looks hard at each inode that was
// freed in the last seconds before it gives it out again.
func BenchmarkExtract(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	var buf bytes.Buffer
	check(b, WriteTar(b.Context(), &buf, dir, scan(b, dir)))
	for b.Loop() {
		b.StopTimer()
		out, err := os.MkdirTemp(dir, "")
		check(b, err)
		b.StartTimer()
		_, err = Extract(b.Context(), bytes.NewReader(buf.Bytes()), out, ExtractOptions{})
		check(b, err)
	}
}

func benchCopy(b *testing.B, src Source, link bool) {
	tmp := b.TempDir()
	for b.Loop() {
		out, err := os.MkdirTemp(tmp, "")
		check(b, err)
		s, err := Select(b.Context(), src, CopyOptions{Sources: []string{"/"}, Dest: "/app", Link: link})
		check(b, err)
		s.Digest()
		builder, err := OpenBuilder(b.Context(), nil, out)
		check(b, err)
		check(b, builder.Copy(s))
		_, err = builder.Finish()
		check(b, err)
	}
}

func BenchmarkCopyFromContext(b *testing.B) {
	c, err := OpenContext(manyFiles(b, benchFiles), ContextOptions{})
	check(b, err)
	defer c.Close()
	benchCopy(b, c, false)
}

func BenchmarkCopyFromLayer(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	benchCopy(b, NewView([]Layer{{dir, scan(b, dir)}}), false)
}

func BenchmarkLinkFromLayer(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	benchCopy(b, NewView([]Layer{{dir, scan(b, dir)}}), true)
}

// BenchmarkUnchangedContext is the work of a build in which nothing changed.
func BenchmarkUnchangedContext(b *testing.B) {
	dir := manyFiles(b, benchFiles)
	file := filepath.Join(b.TempDir(), "hashes")
	selectAll := func() {
		h, err := LoadHashCache(file)
		check(b, err)
		c, err := OpenContext(dir, ContextOptions{Hashes: h})
		check(b, err)
		s, err := Select(b.Context(), c, CopyOptions{Sources: []string{"."}, Dest: "/app"})
		check(b, err)
		s.Digest()
		check(b, h.Save())
		check(b, c.Close())
	}
	time.Sleep(time.Duration(2 * clockTick))
	selectAll()
	for b.Loop() {
		selectAll()
	}
}

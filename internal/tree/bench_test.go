package tree

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
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

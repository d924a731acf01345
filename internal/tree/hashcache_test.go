package tree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aged makes a file whose times are old enough to be trusted.
func aged(t testing.TB, p, content string) {
	t.Helper()
	check(t, os.WriteFile(p, []byte(content), 0o644))
	time.Sleep(time.Duration(clockTick) + 20*time.Millisecond)
}

func loadHashes(t testing.TB, p string) *HashCache {
	t.Helper()
	c, err := LoadHashCache(p)
	check(t, err)
	return c
}

// digestVia reads the digest of a file of dir through a cache.
func digestVia(t testing.TB, dir, name string, h *HashCache) string {
	t.Helper()
	c, err := OpenContext(dir, ContextOptions{Hashes: h})
	check(t, err)
	defer c.Close()
	n, err := c.Lookup(name)
	check(t, err)
	check(t, c.hash(t.Context(), []*Node{n}))
	return string(n.Digest)
}

func known(t testing.TB, h *HashCache, p string) bool {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(p, &st))
	_, _, ok := h.lookup(inodeID{st.Dev, st.Ino}, statOf(&st))
	return ok
}

func TestHashCacheRemembersAndForgets(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "hashes")
	p := filepath.Join(dir, "f")
	aged(t, p, "one")
	h := loadHashes(t, file)
	one := digestVia(t, dir, "f", h)
	if !known(t, h, p) {
		t.Fatal("an old file is not remembered")
	}
	check(t, h.Save())
	h = loadHashes(t, file)
	if !known(t, h, p) {
		t.Fatal("not remembered after saving and loading")
	}
	if got := digestVia(t, dir, "f", h); got != one {
		t.Errorf("digest %s, want %s", got, one)
	}
	// Same size, and the old modification time put back: the change time tells.
	fi, err := os.Stat(p)
	check(t, err)
	check(t, os.WriteFile(p, []byte("two"), 0o644))
	check(t, os.Chtimes(p, fi.ModTime(), fi.ModTime()))
	if got := digestVia(t, dir, "f", h); got == one {
		t.Error("a change with the old size and modification time is missed")
	}
}

func TestHashCacheDoesNotTrustYoungFiles(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	h := loadHashes(t, filepath.Join(t.TempDir(), "hashes"))
	for i := range 200 {
		check(t, os.WriteFile(p, fmt.Appendf(nil, "%03d", i), 0o644))
		if got, want := digestVia(t, dir, "f", h), string(digestBytes(fmt.Appendf(nil, "%03d", i))); got != want {
			t.Fatalf("write %d: digest of an earlier content", i)
		}
	}
	st := fileStat{mtime: 1e18 + 5, ctime: 1e18 + 5}
	for age, racy := range map[int64]bool{-1e9: true, 0: true, clockTick - 1: true, clockTick + 1: false} {
		if st.racy(1e18+5+age) != racy {
			t.Errorf("age %d ns: racy is not %t", age, racy)
		}
	}
	whole := fileStat{mtime: 1e18, ctime: 1e18}
	if !whole.racy(1e18+coarseTick-1) || whole.racy(1e18+coarseTick+1) {
		t.Error("whole seconds are not given two seconds")
	}
}

func TestHashCacheOfDamagedFileIsEmpty(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "hashes")
	aged(t, filepath.Join(dir, "f"), "one")
	h := loadHashes(t, file)
	digestVia(t, dir, "f", h)
	check(t, h.Save())
	good, err := os.ReadFile(file)
	check(t, err)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if hashRecords(bad) != nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
		if len(hashRecords(good[:i])) > 0 {
			t.Errorf("cut at %d: accepted", i)
		}
	}
	check(t, os.WriteFile(file, good[:50], 0o644))
	h = loadHashes(t, file)
	if known(t, h, filepath.Join(dir, "f")) {
		t.Error("a record of a damaged file is used")
	}
	digestVia(t, dir, "f", h)
	check(t, h.Save())
	if !known(t, loadHashes(t, file), filepath.Join(dir, "f")) {
		t.Error("the damaged file was not replaced")
	}
	left, err := os.ReadDir(filepath.Dir(file))
	check(t, err)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHashCacheMergesAndDropsUnused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hashes")
	st := fileStat{1, 2, 3}
	sum := bytes.Repeat([]byte{7}, 32)
	add := func(day uint32, inodes ...uint64) {
		h := loadHashes(t, file)
		h.day = day
		for _, ino := range inodes {
			h.store(inodeID{1, ino}, st, sum, true, 1e18)
		}
		check(t, h.Save())
	}
	add(100, 5, 1, 9)
	add(110, 7, 1)
	add(135, 3)
	h := loadHashes(t, file)
	h.day = 135
	for ino, want := range map[uint64]bool{1: true, 3: true, 5: false, 7: true, 9: false} {
		if _, _, ok := h.lookup(inodeID{1, ino}, st); ok != want {
			t.Errorf("inode %d known: %t, want %t", ino, ok, want)
		}
	}
}

func FuzzHashRecords(f *testing.F) {
	f.Add([]byte(hashMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &HashCache{old: hashRecords(b), fresh: map[inodeID][hashRecord]byte{}}
		c.lookup(inodeID{1, 2}, fileStat{})
		if got := hashRecords(c.encode()); len(got) > len(c.old) {
			t.Error("records were made up")
		}
	})
}

func BenchmarkLoadHashCache(b *testing.B) {
	file := filepath.Join(b.TempDir(), "hashes")
	h, err := LoadHashCache(file)
	check(b, err)
	for i := range uint64(100000) {
		h.store(inodeID{1, i}, fileStat{1, 2, 3}, make([]byte, 32), true, 1e18)
	}
	check(b, h.Save())
	for b.Loop() {
		_, err := LoadHashCache(file)
		check(b, err)
	}
}

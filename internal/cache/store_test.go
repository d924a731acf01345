package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/oci"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRecordRoundTrip(t *testing.T) {
	s := openStore(t, t.TempDir())
	var k Key
	k.Add("op", "exec")
	k.Add("arg", "echo a\nb")
	want := &Record{Key: k, Layer: oci.FromBytes([]byte("l")), Created: time.Unix(1, 2).UTC(), Duration: time.Second}
	if _, err := s.Record(k.Digest()); !errors.Is(err, ErrNotFound) {
		t.Fatalf("record before put: %v, want ErrNotFound", err)
	}
	if err := s.PutRecord(want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Record(k.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Every line ends up in the hash in a way that no other list does.
func TestKeyDigestTellsListsApart(t *testing.T) {
	keys := []Key{
		nil,
		{{"a", "b"}},
		{{"a", "b"}, {"", ""}},
		{{"a b", ""}},
		{{"a", "b\n\"c\" \"d\""}},
		{{"a", "b"}, {"c", "d"}},
		{{"c", "d"}, {"a", "b"}},
	}
	seen := map[oci.Digest]int{}
	for i, k := range keys {
		if j, dup := seen[k.Digest()]; dup {
			t.Errorf("keys %d and %d have the same digest", i, j)
		}
		seen[k.Digest()] = i
	}
}

// A sealed file with any one byte changed, or cut anywhere, is absent.
func TestDamagedRecordIsAbsent(t *testing.T) {
	s := openStore(t, t.TempDir())
	k := Key{{"op", "exec"}}
	if err := s.PutRecord(&Record{Key: k}); err != nil {
		t.Fatal(err)
	}
	path := s.recordPath(k.Digest())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Record(k.Digest()); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%s: got %v, %v, want ErrNotFound", what, r, err)
		}
	}
	for i := range whole {
		check(fmt.Sprintf("cut at %d", i), whole[:i])
		flipped := append([]byte(nil), whole...)
		flipped[i] ^= 1
		check(fmt.Sprintf("flipped at %d", i), flipped)
	}
	other := Key{{"op", "other"}}
	if err := s.PutRecord(&Record{Key: other}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(s.recordPath(other.Digest()))
	check("another key's record", b)
}

func TestBlobs(t *testing.T) {
	s := openStore(t, t.TempDir())
	d, err := s.PutBlob([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "hel")
	fmt.Fprint(w, "lo")
	d2, size, err := w.Commit(d)
	if err != nil || d2 != d || size != 5 {
		t.Errorf("commit: %v %d %v", d2, size, err)
	}
	w, _ = s.NewBlob()
	fmt.Fprint(w, "other")
	if _, _, err := w.Commit(d); err == nil {
		t.Error("commit of other bytes under a digest succeeded")
	}
	path, _ := s.blobPath(d)
	if err := os.WriteFile(path, []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("damaged blob: %v, want ErrNotFound", err)
	}
	if s.HasBlob(d) {
		t.Error("the damaged blob is still there")
	}
	if s.HasBlob("sha256:../../../../etc/passwd") {
		t.Error("a digest that is a path was taken")
	}
}

func commitLayer(t *testing.T, s *Store, id oci.Digest, content string) *Layer {
	t.Helper()
	dir, err := s.TempDir("upper")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := s.CommitLayer(dir, Layer{ID: id, Files: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the temporary directory is still there after commit")
	}
	return l
}

func TestLayerKeepsTheOlderBytes(t *testing.T) {
	s := openStore(t, t.TempDir())
	id := oci.FromBytes([]byte("layer"))
	commitLayer(t, s, id, "older")
	l := commitLayer(t, s, id, "newer")
	if b, _ := os.ReadFile(filepath.Join(l.Dir, "f")); string(b) != "older" {
		t.Errorf("layer holds %q, want the older bytes", b)
	}
	// Damaged, it gives way.
	if err := os.WriteFile(filepath.Join(filepath.Dir(l.Dir), "layer.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("damaged layer: %v, want ErrNotFound", err)
	}
	l = commitLayer(t, s, id, "newer")
	if b, _ := os.ReadFile(filepath.Join(l.Dir, "f")); string(b) != "newer" {
		t.Errorf("layer holds %q, want the newer bytes", b)
	}
	if err := s.RemoveLayer(id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed layer: %v, want ErrNotFound", err)
	}
}

func TestRefsAndFacts(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"docker.io/library/a:1", "docker.io/library/b:1"} {
		if err := s.PutRef(name, name+"!"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRef("docker.io/library/a:1"); err != nil {
		t.Fatal(err)
	}
	names, err := s.Refs()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"docker.io/library/b:1"}, names); d != "" {
		t.Error(d)
	}
	var v string
	if ok, err := s.Ref("docker.io/library/b:1", &v); !ok || err != nil || v != "docker.io/library/b:1!" {
		t.Errorf("ref: %q %v %v", v, ok, err)
	}
	if err := s.PutFact("diffid", "x", 42); err != nil {
		t.Fatal(err)
	}
	var n int
	if ok, err := s.Fact("diffid", "x", &n); !ok || err != nil || n != 42 {
		t.Errorf("fact: %d %v %v", n, ok, err)
	}
	if ok, _ := s.Fact("diffid", "y", &n); ok {
		t.Error("a fact that was never put is there")
	}
}

func TestLockExcludes(t *testing.T) {
	dir := t.TempDir()
	var inside, total atomic.Int32 // the race detector does not know flock
	var wg sync.WaitGroup
	for range 4 {
		s := openStore(t, dir) // its own files: as another process would
		for range 2 {
			wg.Go(func() {
				for range 25 {
					unlock, err := s.Lock(context.Background(), "k")
					if err != nil {
						t.Error(err)
						return
					}
					if inside.Add(1) != 1 {
						t.Error("two holders at once")
					}
					total.Add(1)
					inside.Add(-1)
					unlock()
				}
			})
		}
	}
	wg.Wait()
	if n := total.Load(); n != 200 {
		t.Errorf("%d turns, want 200", n)
	}
	left, _ := os.ReadDir(filepath.Join(dir, "locks"))
	if len(left) != 0 {
		t.Errorf("%d lock files left", len(left))
	}
}

func TestLockEndsWithContext(t *testing.T) {
	s := openStore(t, t.TempDir())
	unlock, err := s.Lock(context.Background(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock: %v, want the context's end", err)
	}
}

// A process killed in the middle leaves its lock free and its temporary files
// to the next one; those of a living process stay.
func TestOpenClearsAfterDeadProcess(t *testing.T) {
	if dir := os.Getenv("CACHE_TEST_DIE"); dir != "" {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.TempDir("half"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	dir := t.TempDir()
	alive := openStore(t, dir)
	mine, err := alive.TempDir("mine")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOpenClearsAfterDeadProcess$")
	cmd.Env = append(os.Environ(), "CACHE_TEST_DIE="+dir)
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child: %v, want killed", err)
	}
	count := func() int {
		left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "*"))
		return len(left)
	}
	if count() != 2 {
		t.Fatalf("%d temporary directories after the kill, want 2", count())
	}
	s := openStore(t, dir)
	if count() != 1 {
		t.Errorf("%d temporary directories after open, want the living process's", count())
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	unlock, err := s.Lock(context.Background(), "k")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// After a reboot only what was synced is believed.
func TestRebootDropsWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	synced := Key{{"step", "synced"}}
	if err := s.PutRecord(&Record{Key: synced}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // inode times are as coarse as the kernel's tick
	at := time.Now()
	time.Sleep(20 * time.Millisecond)
	torn := Key{{"step", "torn"}}
	if err := s.PutRecord(&Record{Key: torn}); err != nil {
		t.Fatal(err)
	}
	id := oci.FromBytes([]byte("layer"))
	commitLayer(t, s, id, "x")
	if err := s.markSynced("another boot", at); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if _, err := s.Record(synced.Digest()); err != nil {
		t.Errorf("synced record: %v", err)
	}
	if _, err := s.Record(torn.Digest()); !errors.Is(err, ErrNotFound) {
		t.Errorf("unsynced record: %v, want ErrNotFound", err)
	}
	if _, err := s.Layer(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("unsynced layer: %v, want ErrNotFound", err)
	}
}

func TestOpenRefusesAnotherFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("stagecraft store 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	if err == nil || !strings.Contains(err.Error(), "STAGECRAFT_ROOT") {
		t.Errorf("open: %v, want an error that names the way out", err)
	}
}

package tree

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// weirdNames are names that formats like to break.
var weirdNames = []string{
	"a b", "tab\there", "new\nline", "\xff\xfe", "ünï", "-rf", "a=b", `back\slash`, "'quote\"", "a", "a.b", "a-b", "a0", "Z",
}

// randomLayer makes a random tree in overlay form. Names are drawn from few, so that layers meet.
type randomLayer struct {
	t     testing.TB
	r     *rand.Rand
	files []string
}

// fill fills a directory; whiteouts are made where they may hide something.
func (l *randomLayer) fill(dir string, depth int, whiteouts bool) {
	l.t.Helper()
	for range 2 + l.r.IntN(6) {
		name := fmt.Sprintf("n%d", l.r.IntN(9))
		if l.r.IntN(4) == 0 {
			name = weirdNames[l.r.IntN(len(weirdNames))]
		}
		p := filepath.Join(dir, name)
		if _, err := os.Lstat(p); err == nil {
			continue
		}
		switch k := l.r.IntN(12); {
		case k < 3 && depth > 0:
			check(l.t, os.Mkdir(p, 0o755))
			opaque := whiteouts && l.r.IntN(4) == 0
			l.fill(p, depth-1, whiteouts && !opaque)
			if opaque {
				check(l.t, unix.Setxattr(p, "trusted.overlay.opaque", []byte("y"), 0))
			}
			check(l.t, os.Chmod(p, []os.FileMode{0o755, 0o700, 0o777 | os.ModeSticky, 0o755 | os.ModeSetgid}[l.r.IntN(4)]))
		case k < 4 && whiteouts:
			check(l.t, unix.Mknod(p, unix.S_IFCHR, 0))
		case k < 5:
			check(l.t, os.Symlink([]string{"n1", "../n2", "/n3/n4", "n5/../n6", ".."}[l.r.IntN(5)], p))
		case k < 6 && len(l.files) > 0:
			check(l.t, os.Link(l.files[l.r.IntN(len(l.files))], p))
			continue
		case k < 7 && depth > 1:
			check(l.t, unix.Mkfifo(p, 0o640))
		default:
			l.file(p)
		}
		check(l.t, os.Lchown(p, l.r.IntN(3), l.r.IntN(3)*100000))
		ts := unix.NsecToTimespec(time.Unix(1e9+int64(l.r.IntN(1e8)), 0).UnixNano())
		check(l.t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func (l *randomLayer) file(p string) {
	size := l.r.IntN(5000)
	if l.r.IntN(20) == 0 {
		size = smallFile + l.r.IntN(smallFile)
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(l.r.Uint32())
	}
	check(l.t, os.WriteFile(p, data, 0o644))
	check(l.t, os.Lchown(p, l.r.IntN(3), 0))
	check(l.t, os.Chmod(p, []os.FileMode{0o644, 0o755, 0o400, 0o4755&^0o4000 | os.ModeSetuid, 0o666}[l.r.IntN(5)]))
	if l.r.IntN(6) == 0 {
		check(l.t, unix.Setxattr(p, "user.note", []byte("a\x00b=c\n"), 0))
	}
	if l.r.IntN(8) == 0 {
		check(l.t, unix.Setxattr(p, "security.capability", netBindCapability, 0))
	}
	l.files = append(l.files, p)
}

// netBindCapability is cap_net_bind_service=ep as the kernel stores it.
var netBindCapability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func newRandomLayer(t testing.TB, seed uint64, whiteouts bool) string {
	t.Helper()
	dir := t.TempDir()
	l := &randomLayer{t: t, r: rand.New(rand.NewPCG(seed, 7))}
	l.fill(dir, 4, whiteouts)
	check(t, os.Chmod(dir, 0o755))
	return dir
}

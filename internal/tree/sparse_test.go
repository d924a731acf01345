package tree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// ustar is a raw header block, for what archive/tar does not write.
func ustar(name string, size int, kind byte) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	copy(b[148:], "        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(b []byte) []byte { return append(b, make([]byte, (512-len(b)%512)%512)...) }

func TestExtractKeepsHoles(t *testing.T) {
	const size, at = 8 << 20, 3 << 20
	var records []byte
	for _, r := range []string{"GNU.sparse.size=" + fmt.Sprint(size), "GNU.sparse.numblocks=1", "GNU.sparse.map=" + fmt.Sprint(at) + ",6"} {
		records = fmt.Appendf(records, "%d %s\n", len(r)+4, r)
	}
	b := append(ustar("pax", len(records), 'x'), padded(records)...)
	b = append(b, ustar("sparse", 6, '0')...)
	b = append(b, padded([]byte("middle"))...)
	b = append(b, make([]byte, 1024)...)
	dir := t.TempDir()
	m, err := Extract(t.Context(), bytes.NewReader(b), dir, ExtractOptions{})
	check(t, err)
	want := make([]byte, size)
	copy(want[at:], "middle")
	got, err := os.ReadFile(filepath.Join(dir, "sparse"))
	check(t, err)
	if !bytes.Equal(got, want) || m.Find("sparse").Digest != digestBytes(want) {
		t.Error("content differs")
	}
	var st unix.Stat_t
	check(t, unix.Lstat(filepath.Join(dir, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("takes %d bytes", st.Blocks*512)
	}
	if _, err := Extract(t.Context(), bytes.NewReader(b), t.TempDir(), ExtractOptions{MaxBytes: size - 1}); err == nil {
		t.Error("the size of holes does not count")
	}
}

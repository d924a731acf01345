package testkit

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

// Entry is one entry of a tar. A name that ends in a slash is a directory, one
// with Link a symlink, one with HardLink a hard link, all others files.
type Entry struct {
	Name     string
	Mode     int64
	UID, GID int
	Data     []byte
	Link     string
	HardLink string

	// Header, when not nil, is written as it is, with Data after it.
	Header *tar.Header
}

// Tar writes entries as a tar, dated [Epoch]. It panics on entries that cannot
// be written: they are the test's own.
func Tar(entries ...Entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		if h == nil {
			h = &tar.Header{Name: e.Name, Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: Epoch}
			switch {
			case e.Link != "":
				h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
			case e.HardLink != "":
				h.Typeflag, h.Linkname, h.Mode = tar.TypeLink, e.HardLink, modeOf(entries, e.HardLink)
			case strings.HasSuffix(e.Name, "/"):
				h.Typeflag = tar.TypeDir
			default:
				h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Data))
			}
		}
		if err := w.WriteHeader(h); err != nil {
			panic(fmt.Sprintf("tar entry %q: %v", e.Name, err))
		}
		if _, err := w.Write(e.Data); err != nil {
			panic(fmt.Sprintf("tar entry %q: %v", e.Name, err))
		}
	}
	if err := w.Flush(); err != nil && !announcesMore(entries) {
		panic(err)
	}
	w.Close()
	return buf.Bytes()
}

// modeOf is the mode that a hard link says again, and that some readers believe.
func modeOf(entries []Entry, name string) int64 {
	for _, e := range entries {
		if e.Name == name {
			return e.Mode
		}
	}
	return 0o644
}

// announcesMore reports whether the last entry is cut short on purpose.
func announcesMore(entries []Entry) bool {
	last := entries[len(entries)-1]
	return last.Header != nil && last.Header.Size > int64(len(last.Data))
}

// HostileTars are layers that no honest builder makes, by what they try. Marker
// is a file name that appears outside the root only where one succeeded.
func HostileTars(marker string) map[string][]byte {
	evil := []byte("escaped\n")
	up := strings.Repeat("../", 12) + "tmp/" + marker
	return map[string][]byte{
		"escape by name": Tar(Entry{Name: up, Mode: 0o644, Data: evil}),
		"escape by symlink": Tar(
			Entry{Name: "out", Link: "/tmp"},
			Entry{Name: "out/" + marker, Mode: 0o644, Data: evil}),
		"escape by relative symlink": Tar(
			Entry{Name: "out", Link: strings.Repeat("../", 12) + "tmp"},
			Entry{Name: "out/" + marker, Mode: 0o644, Data: evil}),
		"escape by hard link": Tar(Entry{Name: "passwd", HardLink: strings.Repeat("../", 12) + "etc/passwd"}),
		"hard link through symlink": Tar(
			Entry{Name: "out", Link: "/etc"},
			Entry{Name: "passwd", HardLink: "out/passwd"}),
		"device node": Tar(Entry{Name: "dev/", Mode: 0o755}, Entry{Header: &tar.Header{
			Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 0, Mode: 0o660}}),
		"absurd size": Tar(Entry{Header: &tar.Header{
			Name: "big", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 50}}),
	}
}

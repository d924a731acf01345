package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of paths, as of the kernel.
const (
	maxPath = 4095 // bytes, PATH_MAX without its NUL
	maxName = 255  // bytes, NAME_MAX
)

// Defaults of [ExtractOptions].
const (
	defaultMaxBytes   = 128 << 30
	defaultMaxEntries = 4 << 20
)

// ExtractOptions bounds what [Extract] accepts.
type ExtractOptions struct {
	MaxBytes     int64 // sum of file sizes in bytes; 0: 128 GiB
	MaxEntries   int   // 0: 4 Mi
	AllowDevices bool  // make device nodes instead of refusing them
}

// HostileError says that an archive holds something that no honest layer holds:
// a path out of the root, a write through a symlink, a device, an absurd size.
type HostileError struct {
	Path   string // as the archive names it
	Reason string
}

func (e *HostileError) Error() string {
	return fmt.Sprintf("archive entry %.200q: %s", e.Path, e.Reason)
}

// Extract unpacks an uncompressed OCI layer tar into dir, an empty directory,
// in overlay form, and returns the manifest of what it made. r is read to its
// end, so that a caller that hashes it has the whole layer's digest.
//
// The archive is not trusted: names are taken as relative to the root and must
// stay in it; no symlink is followed, a path below one is refused; a hard link
// must name an earlier file of the same archive (one to a lower layer is refused,
// as layers are unpacked apart from each other). Sizes are held against the limits
// before anything is written. Such entries end the work with a *[HostileError];
// dir then holds a part and is for the caller to remove.
//
// Of two entries with one name the later wins. Directories that are needed but
// not listed are made 0755, owned by root, dated 1970. Whiteouts hide only what
// lower layers have, as the specification says, wherever in the archive they stand.
func Extract(ctx context.Context, r io.Reader, dir string, o ExtractOptions) (*Manifest, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = defaultMaxEntries
	}
	w, err := newLayerWriter(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	defer w.close()
	x := extractor{w: w, o: o, tar: tar.NewReader(r)}
	x.place = x.entry
	if err := x.all(ctx); err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	// What follows the end marker is padding, and part of the layer's digest.
	if n, err := io.Copy(io.Discard, io.LimitReader(r, o.MaxBytes)); err != nil {
		return nil, fmt.Errorf("extract layer: after the last entry: %w", err)
	} else if n == o.MaxBytes {
		return nil, fmt.Errorf("extract layer: %w", &HostileError{"", "padding without end"})
	}
	m, err := w.finish()
	if err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	return m, nil
}

type extractor struct {
	w       *layerWriter
	o       ExtractOptions
	tar     *tar.Reader
	place   func(*tar.Header) error // writes one entry
	entries int
	bytes   int64
}

func (x *extractor) all(ctx context.Context) error {
	for {
		if x.entries%64 == 0 && context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		h, err := x.tar.Next()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, tar.ErrFieldTooLong) {
			return &HostileError{"", "header of more than 1 MiB"}
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w", x.entries, endsEarly(err))
		}
		x.entries++
		if x.entries > x.o.MaxEntries {
			return &HostileError{h.Name, fmt.Sprintf("more than %d entries", x.o.MaxEntries)}
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.place(h); err != nil {
			return err
		}
	}
}

// entryPath is the clean relative path of a name in an archive.
func entryPath(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", &HostileError{name, "path leads out of the root"}
	}
	if len(p) > maxPath {
		return "", &HostileError{name, fmt.Sprintf("path of %d bytes, more than %d", len(p), maxPath)}
	}
	for c := range strings.SplitSeq(p, "/") {
		if len(c) > maxName {
			return "", &HostileError{name, fmt.Sprintf("name of %d bytes, more than %d", len(c), maxName)}
		}
	}
	if strings.IndexByte(p, 0) >= 0 {
		return "", &HostileError{name, "path holds a NUL byte"}
	}
	return p, nil
}

func (x *extractor) entry(h *tar.Header) error {
	p, err := entryPath(h.Name)
	if err != nil {
		return err
	}
	name := p[strings.LastIndexByte(p, '/')+1:]
	switch {
	case name == opaqueName:
		return x.opaque(h, parentPath(p))
	case isAufsName(p):
		return nil
	case strings.HasPrefix(name, whiteoutPrefix):
		return x.whiteout(h, parentPath(p), name[len(whiteoutPrefix):])
	}
	ino, err := x.inode(h)
	if err != nil {
		return err
	}
	if p == "." {
		return x.root(h, ino)
	}
	parent, err := x.parent(h, parentPath(p))
	if err != nil {
		return err
	}
	if done, err := x.replace(parent, name, ino, h); done || err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		_, err = x.w.mkdir(parent, name, ino)
	case tar.TypeReg, tar.TypeGNUSparse:
		err = x.w.file(parent, name, ino, x.tar, isSparse(h))
	case tar.TypeLink:
		err = x.hardlink(h, parent, name)
	default:
		err = x.w.special(parent, name, ino)
	}
	return err
}

// isAufsName reports whether a component is bookkeeping of the file system
// that whiteouts come from; readers skip it.
func isAufsName(p string) bool {
	return strings.HasPrefix(p, ".wh..wh.") || strings.Contains(p, "/.wh..wh.")
}

func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.map"] != ""
}

// inode checks the metadata of an entry and takes it over.
func (x *extractor) inode(h *tar.Header) (*inode, error) {
	ino := &inode{mtime: unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}}
	ino.Mode, ino.UID, ino.GID = uint32(h.Mode)&0o7777, h.Uid, h.Gid
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, &HostileError{h.Name, fmt.Sprintf("owner %d:%d is out of range", h.Uid, h.Gid)}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		ino.Kind, ino.Size = KindFile, h.Size
		if h.Size < 0 || h.Size > x.o.MaxBytes-x.bytes {
			return nil, &HostileError{h.Name, fmt.Sprintf("claims %d bytes, with which the archive has more than %d", h.Size, x.o.MaxBytes)}
		}
		x.bytes += h.Size
	case tar.TypeDir:
		ino.Kind = KindDir
	case tar.TypeSymlink:
		ino.Kind, ino.Mode, ino.Link = KindSymlink, 0o777, h.Linkname
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.IndexByte(h.Linkname, 0) >= 0 {
			return nil, &HostileError{h.Name, "symbolic link with an empty or overlong target"}
		}
	case tar.TypeLink:
		ino.Kind = KindHardlink
	case tar.TypeFifo:
		ino.Kind = KindFifo
	case tar.TypeChar, tar.TypeBlock:
		if err := x.device(h, ino); err != nil {
			return nil, err
		}
	default:
		return nil, &HostileError{h.Name, fmt.Sprintf("unknown entry type %q", h.Typeflag)}
	}
	if ino.Kind != KindSymlink {
		ino.Xattrs = headerXattrs(h, ino.Kind)
	}
	return ino, nil
}

func (x *extractor) device(h *tar.Header, ino *inode) error {
	if !x.o.AllowDevices {
		return &HostileError{h.Name, "device nodes are not allowed in layers"}
	}
	if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
		return &HostileError{h.Name, fmt.Sprintf("device %d:%d is out of range", h.Devmajor, h.Devminor)}
	}
	ino.Kind, ino.Major, ino.Minor = KindChar, uint32(h.Devmajor), uint32(h.Devminor)
	if h.Typeflag == tar.TypeBlock {
		ino.Kind = KindBlock
	} else if ino.Major == 0 && ino.Minor == 0 {
		return &HostileError{h.Name, "character device 0:0, which overlay mounts take for a whiteout"}
	}
	return nil
}

// headerXattrs are the attributes of an entry that belong to an image and that
// a file of its kind can have.
func headerXattrs(h *tar.Header, k Kind) map[string]string {
	if k != KindFile && k != KindDir {
		return nil
	}
	var m map[string]string
	for record, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok && keepXattr(name) {
			if m == nil {
				m = map[string]string{}
			}
			m[name] = value
		}
	}
	return m
}

// root takes over the metadata of the root directory.
func (x *extractor) root(h *tar.Header, ino *inode) error {
	if ino.Kind != KindDir {
		return &HostileError{h.Name, "the root is not a directory"}
	}
	ino.Opaque = x.w.top.ino.Opaque
	x.w.top.ino = ino
	return nil
}

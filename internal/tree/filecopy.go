package tree

import (
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// fileOrigin is where a copied file comes from.
type fileOrigin struct {
	source Source
	node   *Node
	link   bool // a hard link will do
}

// sourceDir keeps the directory of the last file open, as files mostly come
// directory by directory. It is for one goroutine; the zero value is ready.
type sourceDir struct {
	source Source
	layer  int
	path   string
	fd     int
}

// open returns the directory that holds n, valid until the next call.
func (d *sourceDir) open(s Source, n *Node) (int, error) {
	if p := parentPath(n.Path); d.source != s || d.layer != n.Layer || d.path != p {
		d.close()
		fd, err := s.openDir(n)
		if err != nil {
			return -1, err
		}
		*d = sourceDir{source: s, layer: n.Layer, path: p, fd: fd}
	}
	return d.fd, nil
}

func (d *sourceDir) close() {
	if d.source != nil {
		unix.Close(d.fd)
		d.source = nil
	}
}

// copyFile makes a regular file from one of a source.
func (w *layerWriter) copyFile(parent *node, name string, ino *inode, from fileOrigin) error {
	h, err := w.dirOf(parent)
	if err != nil {
		return err
	}
	if _, err := w.workers.room(0); err != nil {
		return err
	}
	w.workers.add(fileJob{dir: h.acquire(), node: parent.add(name, ino), ino: ino, from: from})
	return nil
}

// copyWorker is the state of one worker that copies.
type copyWorker struct {
	*hasher
	dirs sourceDir
}

// copy makes the file of a job. Errors of the source name the source.
func (c *copyWorker) copy(j *fileJob, ids processIDs) error {
	n := j.from.node
	dir, err := c.dirs.open(j.from.source, n)
	if err != nil {
		return err
	}
	if j.from.link {
		switch err := unix.Linkat(dir, n.Name(), j.dir.fd, j.node.name, 0); err {
		case nil:
			return nil
		case unix.EMLINK, unix.EXDEV, unix.EPERM: // a copy will do
		default:
			return &fs.PathError{Op: "link", Path: n.Path, Err: err}
		}
	}
	in, err := retry(func() (int, error) {
		return unix.Openat(dir, n.Name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: n.Path, Err: err}
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := statAndCheck(j.from, in, &st); err != nil {
		return err
	}
	out, err := createFile(j.dir, j.node.name, j.ino)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if err := c.content(out, in, n, &st); err != nil {
		return err
	}
	if err := statAndCheck(j.from, in, &st); err != nil {
		return err
	}
	j.ino.mtime = st.Mtim
	return sealFile(out, j.dir.fd, j.node.name, j.ino, ids)
}

// statAndCheck makes sure that the open file is what was selected and hashed.
func statAndCheck(from fileOrigin, fd int, st *unix.Stat_t) error {
	err := unix.Fstat(fd, st)
	if err == nil {
		err = from.source.check(from.node, st)
	}
	if err != nil {
		return &fs.PathError{Op: "read", Path: from.node.Path, Err: err}
	}
	return nil
}

// content copies the bytes. Small files pass through memory, which is fastest
// for them; of large ones the kernel shares or copies the blocks.
func (c *copyWorker) content(out, in int, n *Node, st *unix.Stat_t) error {
	if n.Size <= int64(len(c.buf)) {
		p := c.buf[:n.Size]
		if err := readFull(in, p); err != nil {
			return &fs.PathError{Op: "read", Path: n.Path, Err: err}
		}
		if n.young && digestBytes(p) != n.Digest {
			return &fs.PathError{Op: "read", Path: n.Path, Err: errChanged}
		}
		return writeFull(out, p)
	}
	var err error
	if st.Blocks*512 < st.Size {
		err = c.copySparse(out, in, n.Size)
	} else {
		err = c.copyRange(out, in, n.Size)
	}
	if err != nil {
		return &fs.PathError{Op: "copy", Path: n.Path, Err: err}
	}
	if n.young {
		if _, err := unix.Seek(in, 0, io.SeekStart); err != nil {
			return err
		}
		if d, err := c.file(in, n.Size); err != nil || d != n.Digest {
			return &fs.PathError{Op: "read", Path: n.Path, Err: errChanged}
		}
	}
	return nil
}

// copyRange copies size bytes at the current offsets.
func (c *copyWorker) copyRange(out, in int, size int64) error {
	for size > 0 {
		n, err := retry(func() (int, error) {
			return unix.CopyFileRange(in, nil, out, nil, int(min(size, 1<<30)), 0)
		})
		switch {
		case err == unix.ENOSYS || err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.EPERM:
			return c.copyThrough(out, in, size)
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("ends %d bytes early", size)
		}
		size -= int64(n)
	}
	return nil
}

// copyThrough copies through memory.
func (c *copyWorker) copyThrough(out, in int, size int64) error {
	for size > 0 {
		p := c.buf[:min(size, int64(len(c.buf)))]
		if err := readFull(in, p); err != nil {
			return err
		}
		if err := writeFull(out, p); err != nil {
			return err
		}
		size -= int64(len(p))
	}
	return nil
}

// copySparse copies the data and leaves the holes.
func (c *copyWorker) copySparse(out, in int, size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(in, at, unix.SEEK_DATA)
		if err == unix.ENXIO || data >= size {
			break // only a hole is left
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(in, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, size)
		if _, err := unix.Seek(in, data, io.SeekStart); err != nil {
			return err
		}
		if _, err := unix.Seek(out, data, io.SeekStart); err != nil {
			return err
		}
		if err := c.copyRange(out, in, hole-data); err != nil {
			return err
		}
		at = hole
	}
	return unix.Ftruncate(out, size)
}

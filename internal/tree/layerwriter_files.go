package tree

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// fileJob is one regular file to be made by a worker.
type fileJob struct {
	dir  *dirHandle // a reference of its own
	node *node      // its name, of which only the path is read
	ino  *inode
	data []byte     // the content, if it came through memory
	from fileOrigin // where to copy it from, if its source is set
}

// writeBatch is what a worker takes at a time. data of its jobs is in buf.
type writeBatch struct {
	jobs []fileJob
	buf  []byte
}

// writePool makes regular files on several CPUs. The batches are a fixed
// number, which bounds memory: who fills one waits for a free one.
type writePool struct {
	ctx     context.Context
	dir     string // for errors
	ids     processIDs
	current *writeBatch
	free    chan *writeBatch
	work    chan *writeBatch
	workers sync.WaitGroup
	pending sync.WaitGroup // batches on their way
	closed  bool

	mu  sync.Mutex
	err error // the first one
}

func newWritePool(ctx context.Context, dir string, ids processIDs) *writePool {
	n := runtime.GOMAXPROCS(0)
	p := &writePool{ctx: ctx, dir: dir, ids: ids, free: make(chan *writeBatch, 2*n), work: make(chan *writeBatch, 2*n)}
	for range 2 * n {
		p.free <- &writeBatch{jobs: make([]fileJob, 0, batchEntries)}
	}
	for range n {
		p.workers.Go(p.run)
	}
	return p
}

// close waits for the workers; what was not yet handed out is dropped.
func (p *writePool) close() {
	if p.closed {
		return
	}
	p.closed = true
	if p.current != nil {
		releaseJobs(p.current)
	}
	close(p.work)
	p.workers.Wait()
}

func releaseJobs(b *writeBatch) {
	for i := range b.jobs {
		b.jobs[i].dir.release()
	}
	clear(b.jobs)
	b.jobs = b.jobs[:0]
}

// room returns size bytes of the current batch for the content of the next
// job.
func (p *writePool) room(size int) ([]byte, error) {
	if b := p.current; b != nil && (len(b.jobs) == batchEntries || len(b.buf)+size > batchBytes) {
		p.dispatch()
	}
	if err := p.failure(); err != nil {
		return nil, err
	}
	if p.current == nil {
		p.current = <-p.free
	}
	b := p.current
	if size > 0 && b.buf == nil {
		b.buf = make([]byte, 0, batchBytes)
	}
	b.buf = b.buf[:len(b.buf)+size]
	return b.buf[len(b.buf)-size:], nil
}

// add puts a job into the batch that room was made in.
func (p *writePool) add(j fileJob) { p.current.jobs = append(p.current.jobs, j) }

func (p *writePool) dispatch() {
	if p.current == nil {
		return
	}
	p.pending.Add(1)
	p.work <- p.current
	p.current = nil
}

// barrier waits until all files so far are on disk.
func (p *writePool) barrier() error {
	p.dispatch()
	p.pending.Wait()
	return p.failure()
}

func (p *writePool) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return context.Cause(p.ctx)
	}
	return p.err
}

func (p *writePool) run() {
	c := &copyWorker{hasher: newHasher()}
	defer c.dirs.close()
	for b := range p.work {
		if err := p.batch(c, b); err != nil {
			p.mu.Lock()
			if p.err == nil {
				p.err = err
			}
			p.mu.Unlock()
		}
		releaseJobs(b)
		b.buf = b.buf[:0]
		p.free <- b
		p.pending.Done()
	}
}

func (p *writePool) batch(c *copyWorker, b *writeBatch) error {
	for i := range b.jobs {
		if err := p.failure(); err != nil {
			return nil // reported already
		}
		j := &b.jobs[i]
		if err := p.file(c, j); err != nil {
			return &fs.PathError{Op: "write", Path: filepath.Join(p.dir, j.node.path()), Err: err}
		}
	}
	return nil
}

func (p *writePool) file(c *copyWorker, j *fileJob) error {
	if j.from.source != nil {
		return c.copy(j, p.ids)
	}
	fd, err := createFile(j.dir, j.node.name, j.ino)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeFull(fd, j.data); err != nil {
		return err
	}
	if j.ino.Digest == "" {
		j.ino.Digest = digestBytes(j.data)
	}
	return sealFile(fd, j.dir.fd, j.node.name, j.ino, p.ids)
}

// createFile makes an empty regular file that did not exist.
func createFile(dir *dirHandle, name string, ino *inode) (int, error) {
	return dir.openChild(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, ino.Mode&0o777)
}

// sealFile sets what createFile and writing left open. The order matters:
// chown clears setuid bits and capabilities.
func sealFile(fd, dir int, name string, ino *inode, ids processIDs) error {
	if ino.UID != ids.uid || ino.GID != ids.gid {
		if err := unix.Fchown(fd, ino.UID, ino.GID); err != nil {
			return fmt.Errorf("chown to %d:%d: %w", ino.UID, ino.GID, err)
		}
	}
	if ino.Mode&0o7000 != 0 || ino.Mode&ids.umask != 0 {
		if err := unix.Fchmod(fd, ino.Mode); err != nil {
			return err
		}
	}
	if err := writeXattrs(fd, ino.Xattrs); err != nil {
		return err
	}
	return setTimes(dir, name, ino.mtime)
}

// setTimes sets access and modification time of a name that is in dir itself.
func setTimes(dir int, name string, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// file makes a regular file of ino.Size bytes from r and hashes it.
func (w *layerWriter) file(parent *node, name string, ino *inode, r io.Reader, sparse bool) error {
	h, err := w.dirOf(parent)
	if err != nil {
		return err
	}
	if ino.Size > smallFile {
		if err := w.stream(h, name, ino, r, sparse); err != nil {
			return w.fail(parent, name, err)
		}
		parent.add(name, ino)
		return nil
	}
	data, err := w.workers.room(int(ino.Size))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, data); err != nil {
		return w.fail(parent, name, endsEarly(err))
	}
	child := parent.add(name, ino)
	w.workers.add(fileJob{dir: h.acquire(), node: child, ino: ino, data: data})
	return nil
}

// endsEarly makes every end of input an unexpected one.
func endsEarly(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stream writes a large file as it is read. Blocks of zeros in a sparse one
// become holes again.
func (w *layerWriter) stream(dir *dirHandle, name string, ino *inode, r io.Reader, sparse bool) error {
	fd, err := createFile(dir, name, ino)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	sum, buf := w.scratch.sum, w.scratch.buf
	sum.Reset()
	for left := ino.Size; left > 0; {
		if err := w.workers.failure(); err != nil {
			return err
		}
		p := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(r, p); err != nil {
			return endsEarly(err)
		}
		sum.Write(p)
		left -= int64(len(p))
		if sparse && allZero(p) {
			_, err = unix.Seek(fd, int64(len(p)), io.SeekCurrent)
		} else {
			err = writeFull(fd, p)
		}
		if err != nil {
			return err
		}
	}
	if sparse {
		if err := unix.Ftruncate(fd, ino.Size); err != nil {
			return err
		}
	}
	ino.Digest = w.scratch.digest()
	return sealFile(fd, dir.fd, name, ino, w.ids)
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

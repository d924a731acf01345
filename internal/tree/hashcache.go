package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"stagecraft/internal/oci"
)

// The file of a [HashCache]: hashMagic, then records of hashRecord bytes sorted
// by device and inode, then the CRC-32C of all before it. A record is, in little
// endian: device, inode, size, modification and change time in nanoseconds (8
// bytes each), the SHA-256 (32 bytes), the day of the last use since 1970 and
// flags (4 bytes each). A file that is anything else counts as empty.
const (
	hashMagic  = "stagecraft-hash1"
	hashRecord = 80
	maxHashes  = 4 << 20
)

// hashPlain is the flag of a file without extended attributes, which need not
// be opened again.
const hashPlain = 1

// hashKeepDays is how long an unused record is kept.
const hashKeepDays = 30

// A HashCache remembers the digests of files by what stat says of them, so that
// an unchanged file is not read again. It never remembers a file that was changed
// so recently that a later change could leave the same times ("racily clean").
// It is a cache in the strict sense: any content of its file gives right digests
// or more reading. It is safe for concurrent use.
type HashCache struct {
	path string
	day  uint32

	mu    sync.Mutex
	old   []byte // records as loaded
	fresh map[inodeID][hashRecord]byte
	dirty bool
}

// LoadHashCache reads the cache at path. A missing or damaged file is an empty
// cache.
func LoadHashCache(path string) (*HashCache, error) {
	c := &HashCache{path: path, day: uint32(time.Now().Unix() / 86400), fresh: map[inodeID][hashRecord]byte{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hash cache: %w", err)
	}
	c.old = hashRecords(b)
	return c, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashRecords are the records of a valid file, else nil.
func hashRecords(b []byte) []byte {
	end := len(b) - crc32.Size
	if end < len(hashMagic) || string(b[:len(hashMagic)]) != hashMagic || (end-len(hashMagic))%hashRecord != 0 {
		return nil
	}
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil
	}
	return b[len(hashMagic):end]
}

// lookup returns the digest of a file with this identity, and whether it is
// known to have no extended attributes.
func (c *HashCache) lookup(id inodeID, st fileStat) (d oci.Digest, plain, ok bool) {
	if c == nil {
		return "", false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.fresh[id]
	if !ok {
		n := len(c.old) / hashRecord
		i := sort.Search(n, func(i int) bool { return !c.oldID(i).less(id) })
		if i == n || c.oldID(i) != id {
			return "", false, false
		}
		r = [hashRecord]byte(c.old[i*hashRecord:])
	}
	if !sameStat(&r, st) {
		return "", false, false
	}
	if used := binary.LittleEndian.Uint32(r[72:]); used != c.day {
		// The day of use is for the file's own sake; a week may pass unwritten.
		binary.LittleEndian.PutUint32(r[72:], c.day)
		c.fresh[id] = r
		c.dirty = c.dirty || c.day-used >= 7
	}
	return formatDigest(r[40:72]), binary.LittleEndian.Uint32(r[76:])&hashPlain != 0, true
}

func (c *HashCache) oldID(i int) inodeID { return recordID(c.old[i*hashRecord:]) }

func recordID(r []byte) inodeID {
	return inodeID{binary.LittleEndian.Uint64(r), binary.LittleEndian.Uint64(r[8:])}
}

func (a inodeID) less(b inodeID) bool { return a.dev < b.dev || a.dev == b.dev && a.ino < b.ino }

func (a inodeID) compare(b inodeID) int {
	switch {
	case a == b:
		return 0
	case a.less(b):
		return -1
	}
	return 1
}

func sameStat(r *[hashRecord]byte, st fileStat) bool {
	var want [24]byte
	putStat(want[:], st)
	return bytes.Equal(r[16:40], want[:])
}

func putStat(b []byte, st fileStat) {
	binary.LittleEndian.PutUint64(b, uint64(st.size))
	binary.LittleEndian.PutUint64(b[8:], uint64(st.mtime))
	binary.LittleEndian.PutUint64(b[16:], uint64(st.ctime))
}

// clockTick bounds the granularity of time stamps of files, in nanoseconds: a
// few ticks of the slowest kernel clock. coarseTick is for file systems that
// store whole seconds or two.
const (
	clockTick  = int64(50 * time.Millisecond)
	coarseTick = int64(2 * time.Second)
)

// racy reports whether a file that was read at the time now (nanoseconds since
// 1970) could be changed afterwards without a difference in st.
func (st fileStat) racy(now int64) bool {
	tick := clockTick
	if st.mtime%int64(time.Second) == 0 && st.ctime%int64(time.Second) == 0 {
		tick = coarseTick
	}
	return max(st.mtime, st.ctime) > now-tick
}

// store remembers a digest, unless the file was too young at the time now, when
// reading it began.
func (c *HashCache) store(id inodeID, st fileStat, sum []byte, plain bool, now int64) {
	if c == nil || st.racy(now) {
		return
	}
	var r [hashRecord]byte
	binary.LittleEndian.PutUint64(r[:], id.dev)
	binary.LittleEndian.PutUint64(r[8:], id.ino)
	putStat(r[16:], st)
	copy(r[40:72], sum)
	binary.LittleEndian.PutUint32(r[72:], c.day)
	if plain {
		binary.LittleEndian.PutUint32(r[76:], hashPlain)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh[id] = r
	c.dirty = true
}

// Save writes the cache back, if it learned anything, by replacing the file. Of
// two processes the later wins.
func (c *HashCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	b := c.encode()
	if err := replaceFile(c.path, b); err != nil {
		return fmt.Errorf("hash cache: %w", err)
	}
	c.old, c.fresh, c.dirty = hashRecords(b), map[inodeID][hashRecord]byte{}, false
	return nil
}

// encode merges the sorted old records with the new ones.
func (c *HashCache) encode() []byte {
	ids := make([]inodeID, 0, len(c.fresh))
	for id := range c.fresh {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, inodeID.compare)
	b := append(make([]byte, 0, len(hashMagic)+len(c.old)+len(ids)*hashRecord+crc32.Size), hashMagic...)
	old := c.old
	keepOld := func(limit inodeID, all bool) {
		for len(old) > 0 && (all || recordID(old).less(limit)) {
			if c.day-binary.LittleEndian.Uint32(old[72:]) <= hashKeepDays && len(b) < maxHashes*hashRecord {
				b = append(b, old[:hashRecord]...)
			}
			old = old[hashRecord:]
		}
	}
	for _, id := range ids {
		keepOld(id, false)
		if len(old) > 0 && recordID(old) == id {
			old = old[hashRecord:]
		}
		r := c.fresh[id]
		b = append(b, r[:]...)
	}
	keepOld(inodeID{}, true)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// replaceFile writes a file beside path and renames it there, so that a reader
// sees the old or the new one.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

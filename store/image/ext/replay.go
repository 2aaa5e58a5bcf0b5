package ext

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// maxReplaced is how many blocks a log may have, and revoke.
const maxReplaced = 1 << 20

var errNotReplayed = errors.New("it cannot be replayed")

// logged is a block in the log, or a revocation of one.
type logged struct {
	block    uint64
	in       uint64 // block of the log, with escaped
	sequence uint32
}

// replay puts the log in front of the blocks. What is wrong with the log is noted: then the
// file system is as it was when the machine stopped. Errors come from the source.
func (fs *FS) replay(r io.ReaderAt, backup bool) error {
	if fs.journalInode == 0 {
		fs.note("its journal is on another device and was not replayed")
		return nil
	}
	o, err := fs.replayed(r)
	if err == nil && len(o) > 0 {
		err = fs.useLog(r, o, backup)
	}
	if errors.Is(err, corrupt.Err) || errors.Is(err, errNotReplayed) {
		fs.note("its journal was not replayed: %v", err)
		return nil
	}
	return err
}

// useLog reads the superblock again: a newer one may be in the log.
func (fs *FS) useLog(r io.ReaderAt, o overlay, backup bool) error {
	fs.overlay = o
	// What was verified is what the blocks were before.
	fs.cache = lru.New[cacheKey, []byte](cacheSize)
	if backup {
		return nil
	}
	p := make([]byte, superblockSize)
	if err := fs.read(r, p, superblockOff, "ext superblock"); err != nil {
		return err
	}
	s, err := parseSuperblock(p, superblockOff)
	if err == nil && s.blockSize != fs.blockSize {
		err = corrupt.New("the superblock in it has another block size")
	}
	if err != nil {
		fs.overlay = nil
		return err
	}
	fs.superblock = s
	return nil
}

// replayed reads the log.
func (fs *FS) replayed(r io.ReaderAt) (overlay, error) {
	j, err := fs.openJournal(r)
	if err != nil || j.start == 0 {
		return nil, err
	}
	s := scan{journal: j, at: j.start, sequence: j.sequence, crc: math.MaxUint32}
	if err := s.all(); err != nil {
		return nil, err
	}
	if s.broken {
		fs.note("transaction %d in its journal is damaged: it was replayed up to there", s.end)
	}
	if j.incompatible&logFastCommit != 0 {
		n, err := j.fastCommits(s.end)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			fs.note("its journal ends with %d fast commits, which were not replayed: the last changes are not shown", n)
		}
	}
	return s.overlay()
}

// scan reads the transactions of a log, one after the other.
type scan struct {
	*journal

	at       uint64 // the next block
	read     uint64 // how many were
	sequence uint32 // of the next transaction
	end      uint32 // of the first that does not count

	blocks, revoked []logged // of the transactions that count
	wrong           error    // of a block in them

	pending      struct{ blocks, revoked []logged }
	pendingWrong error // of a block in the transaction that is being read
	pendingStale bool  // a descriptor of it is wrong: it may be left of earlier times
	crc          uint32
	lastSec      uint64
	broken       bool // the last commit is wrong
}

func (s *scan) all() error {
	for s.read <= s.journal.end {
		p, err := s.take()
		if err != nil {
			return err
		}
		be := binary.BigEndian
		if be.Uint32(p) != journalMagic || be.Uint32(p[8:]) != s.sequence {
			break
		}
		var more bool
		switch be.Uint32(p[4:]) {
		case logDescriptor:
			more, err = true, s.descriptor(slices.Clone(p))
		case logRevoke:
			more, err = true, s.revoke(p)
		case logCommit:
			more, err = s.commit(p)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	s.end = s.sequence
	return s.wrong
}

// take returns the next block of the log.
func (s *scan) take() ([]byte, error) {
	p, err := s.block(s.at)
	s.at = s.next(s.at)
	s.read++
	return p, err
}

func (s *scan) descriptor(p []byte) error {
	if !s.blockIsRight(p) {
		s.pendingStale = true
	}
	if s.compat&logChecksum1 != 0 {
		s.crc = crc32BE(s.crc, p)
	}
	for _, t := range s.tags(p) {
		in := s.at
		if s.read > s.journal.end {
			return nil
		}
		data, err := s.take()
		if err != nil {
			return err
		}
		if s.compat&logChecksum1 != 0 {
			s.crc = crc32BE(s.crc, data)
		}
		if !s.tagFits(t, s.sequence, data) && s.pendingWrong == nil {
			s.pendingWrong = corrupt.At(s.inode.off, "ext journal: block %d: wrong checksum", in)
		}
		if t.flags&tagEscaped != 0 {
			in |= escaped
		}
		s.pending.blocks = append(s.pending.blocks, logged{t.block, in, s.sequence})
	}
	return s.bounded()
}

func (s *scan) bounded() error {
	if len(s.blocks)+len(s.revoked)+len(s.pending.blocks)+len(s.pending.revoked) > maxReplaced {
		return fmt.Errorf("ext journal of more than %d blocks: %w", maxReplaced, errNotReplayed)
	}
	return nil
}

func (s *scan) revoke(p []byte) error {
	be := binary.BigEndian
	limit := len(p)
	if s.checksums() {
		limit -= 4
	}
	used := int(be.Uint32(p[logHeaderSize:]))
	if !s.blockIsRight(p) || used > limit {
		s.pendingStale = true
		return nil
	}
	size := 4
	if s.incompatible&log64bit != 0 {
		size = 8
	}
	for off := logHeaderSize + 4; off+size <= used; off += size {
		block := uint64(be.Uint32(p[off:]))
		if size == 8 {
			block = be.Uint64(p[off:])
		}
		s.pending.revoked = append(s.pending.revoked, logged{block: block, sequence: s.sequence})
	}
	return s.bounded()
}

// commit ends a transaction. What has wrong checksums is either left of earlier times, which
// its time shows, and ends the log; or it was being written when the machine stopped, or it
// is damaged.
func (s *scan) commit(p []byte) (more bool, err error) {
	sec := binary.BigEndian.Uint64(p[48:])
	right := s.commitIsRight(p)
	if s.compat&logChecksum1 != 0 {
		right = s.commitIsRight1(p)
	}
	switch {
	case s.pendingStale && sec >= s.lastSec:
		return false, corrupt.At(s.inode.off, "ext journal: transaction %d: wrong checksum", s.sequence)
	case s.pendingStale:
		return false, nil
	case !right:
		// An async commit may be written before its blocks are: then it never happened.
		s.broken = sec >= s.lastSec && s.incompatible&logAsyncCommit == 0
		return false, nil
	}
	if s.wrong == nil {
		s.wrong = s.pendingWrong
	}
	s.blocks = append(s.blocks, s.pending.blocks...)
	s.revoked = append(s.revoked, s.pending.revoked...)
	s.pending.blocks, s.pending.revoked, s.pendingWrong = s.pending.blocks[:0], s.pending.revoked[:0], nil
	s.lastSec, s.crc = sec, math.MaxUint32
	s.sequence++
	return true, nil
}

// commitIsRight1 verifies a commit with the checksum of the first version, over all blocks of
// the transaction. There may be none.
func (s *scan) commitIsRight1(p []byte) bool {
	kind, size, sum := p[12], p[13], binary.BigEndian.Uint32(p[16:])
	return kind == 0 && size == 0 && sum == 0 || kind == 1 && size == 4 && sum == s.crc
}

// crc32BE is the CRC-32 of Ethernet with the highest bit first.
func crc32BE(c uint32, p []byte) uint32 {
	for _, b := range p {
		c = c<<8 ^ crc32Table[byte(c>>24)^b]
	}
	return c
}

var crc32Table = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

// overlay returns the newest version of each block that no later transaction, nor its own,
// has revoked.
func (s *scan) overlay() (overlay, error) {
	order := func(a, b logged) int { return cmp.Or(cmp.Compare(a.block, b.block), int(int32(a.sequence-b.sequence))) }
	slices.SortStableFunc(s.blocks, order)
	slices.SortStableFunc(s.revoked, order)
	var o overlay
	for i, k := 0, 0; i < len(s.blocks); i++ {
		b := s.blocks[i]
		if i+1 < len(s.blocks) && s.blocks[i+1].block == b.block {
			continue // there is a newer one
		}
		for k < len(s.revoked) && (s.revoked[k].block < b.block || k+1 < len(s.revoked) && s.revoked[k+1].block == s.revoked[k].block) {
			k++
		}
		if k < len(s.revoked) && s.revoked[k].block == b.block && int32(s.revoked[k].sequence-b.sequence) >= 0 {
			continue
		}
		if b.block >= s.fs.blocks {
			return nil, corrupt.At(s.inode.off, "ext journal: block %d lies outside of the file system", b.block)
		}
		place, err := s.place(b.in &^ escaped)
		if err != nil {
			return nil, err
		}
		o = append(o, replaced{b.block, place | b.in&escaped})
	}
	return o, nil
}

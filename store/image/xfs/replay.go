package xfs

import (
	"encoding/binary"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

var le = binary.LittleEndian // the order of bytes of the usual machines, in which items are

// maxActive is how much of a log is replayed, in bytes. It is read twice.
const maxActive = 128 << 20

// Flags of an operation. A part of an item that does not fit in a record goes on in
// another one.
const (
	startFlag     = 0x01
	commitFlag    = 0x02
	continueFlag  = 0x04 // goes on later
	continuedFlag = 0x08 // goes on from before
	endFlag       = 0x10
)

const (
	transactionMagic  = 0x5452414e
	transactionHeader = 16
	maxRegions        = 257      // of an item
	maxReplay         = 48 << 20 // bytes that a replay may take
	maxOpen           = 4096     // transactions
	regionCost        = 64       // bytes that a region takes beside its own
)

// item is one change: the first region says what is changed, the others have it.
type item struct {
	total   int // regions
	regions [][]byte
}

// transaction is a set of changes that counts when it was committed.
type transaction struct {
	lsn    uint64
	header int // bytes of the header that were seen
	items  []*item
	bytes  int
}

// replay is one pass through the log.
type replay struct {
	ring   *ring
	open   map[uint32]*transaction // by the number that the operations carry
	left   *budget
	commit func(r io.ReaderAt, t *transaction) error
}

// replay applies what lies in the log between the tail and the head to an overlay.
func (l *ring) replay(r io.ReaderAt, tail, head int64) (*changes, error) {
	active := (head - tail + l.sectors) % l.sectors
	if active*sector > maxActive {
		return nil, corrupt.New("log: %d bytes in use are more than are replayed", active*sector)
	}
	c := &changes{fs: l.fs, overlay: overlay{}, cancelled: map[extentKey]int{}, unfinished: map[uint64]bool{}, left: maxReplay}
	for _, commit := range []func(io.ReaderAt, *transaction) error{c.cancel, c.apply} {
		p := &replay{ring: l, open: map[uint32]*transaction{}, left: &c.left, commit: commit}
		if err := p.pass(r, tail, active); err != nil {
			return nil, err
		}
		for _, t := range p.open { // they never happened
			c.left.give(t.bytes)
		}
	}
	return c, nil
}

// pass reads all records and calls commit for each transaction that was committed.
func (p *replay) pass(r io.ReaderAt, at, left int64) error {
	l := p.ring
	for left > 0 {
		b, err := l.read(r, at, 1)
		if err != nil {
			return err
		}
		rec, err := l.decode(b, at)
		if err != nil {
			return err
		}
		if rec.sectors() > left {
			return corrupt.At(l.off+at*sector, "log: a record leaves the part in use")
		}
		if b, err = l.read(r, at, rec.sectors()); err != nil {
			return err
		}
		if !rec.fits(b) {
			return corrupt.At(l.off+at*sector, "log: checksum of a record does not match")
		}
		if err := p.record(r, rec, rec.unpack(b)); err != nil {
			return err
		}
		at = (at + rec.sectors()) % l.sectors
		left -= rec.sectors()
	}
	return nil
}

// record takes the operations of a record: number of the transaction, length, who wrote it
// and flags, and the bytes.
func (p *replay) record(r io.ReaderAt, rec *record, b []byte) error {
	bad := func(what string) error {
		return corrupt.At(p.ring.off+rec.at*sector, "log: record: %s", what)
	}
	for range rec.ops {
		if len(b) < operationSize || uint64(be.Uint32(b[4:])) > uint64(len(b)-operationSize) {
			return bad("an operation leaves it")
		}
		id, n, flags := be.Uint32(b), be.Uint32(b[4:]), b[9]
		data := b[operationSize:][:n]
		b = b[operationSize+n:]
		t := p.open[id]
		if t == nil {
			if flags&startFlag != 0 {
				if len(p.open) >= maxOpen {
					return bad("too many open transactions")
				}
				p.open[id] = &transaction{lsn: rec.lsn}
			}
			continue // what began before the tail is in its place
		}
		if flags &^= endFlag; flags&continuedFlag != 0 {
			flags &^= continueFlag
		}
		var err error
		switch flags {
		case commitFlag:
			delete(p.open, id)
			err = p.commit(r, t)
			p.left.give(t.bytes)
		case unmountFlag:
			delete(p.open, id)
			p.left.give(t.bytes)
		case continuedFlag:
			err = p.add(t, data, true)
		case 0, continueFlag:
			err = p.add(t, data, false)
		default:
			return bad("operation with unknown flags")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds bytes to a transaction: its header, a new region, or the rest of one.
func (p *replay) add(t *transaction, b []byte, continued bool) error {
	if len(b) == 0 {
		return nil
	}
	t.bytes += len(b) + regionCost
	if err := p.left.take(len(b) + regionCost); err != nil {
		return err
	}
	if t.header < transactionHeader {
		if t.header == 0 && (len(b) < 4 || le.Uint32(b) != transactionMagic) || t.header+len(b) > transactionHeader {
			return corrupt.New("log: transaction without a header")
		}
		t.header += len(b)
		return nil
	}
	return t.region(b, continued)
}

// region adds to the regions of the last item, or begins another one.
func (t *transaction) region(b []byte, continued bool) error {
	var last *item
	if len(t.items) > 0 {
		last = t.items[len(t.items)-1]
	}
	if continued {
		if last == nil {
			return corrupt.New("log: nothing to go on with")
		}
		n := len(last.regions) - 1
		last.regions[n] = append(last.regions[n], b...)
		return nil
	}
	if last == nil || len(last.regions) == last.total {
		if len(b) < 4 || le.Uint16(b[2:]) == 0 || le.Uint16(b[2:]) > maxRegions {
			return corrupt.New("log: item without a number of regions")
		}
		last = &item{total: int(le.Uint16(b[2:]))}
		t.items = append(t.items, last)
	}
	last.regions = append(last.regions, append([]byte(nil), b...))
	return nil
}

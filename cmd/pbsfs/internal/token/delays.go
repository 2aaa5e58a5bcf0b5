package token

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 16 * time.Second
	// quiet is how long after its last wrong credential an address is forgotten.
	quiet = 10 * time.Minute
	// maxHeld is how many requests of an address may wait. More would only keep
	// connections open.
	maxHeld = 4
	// maxAddresses bounds the memory.
	maxAddresses = 4096
)

// Delays makes addresses wait that show wrong credentials. A server asks Blocked before
// it looks at a credential; after a wrong one it calls Wrong, and Hold before it
// answers. IPv6 addresses count by /64, because one host can use all of that. The zero
// Delays is ready for use.
type Delays struct {
	mu     sync.Mutex // guards all below; nothing is called or awaited under it
	byAddr map[netip.Prefix]*list.Element
	order  list.List // of *guesser; the front had its last wrong credential last
}

// guesser is an address that showed wrong credentials.
type guesser struct {
	key   netip.Prefix
	delay time.Duration // of its next answer
	last  time.Time     // of its last wrong credential
	held  int           // answers that wait
}

// keyOf returns the network by which an address counts. All addresses that are not
// valid count as one.
func keyOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Wrong counts a wrong credential of an address, and returns how long its answer is to
// be held.
func (d *Delays) Wrong(addr netip.Addr) time.Duration {
	key, now := keyOf(addr), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(now)
	g := d.find(key)
	if g == nil {
		g = d.add(key)
	}
	g.delay, g.last = min(max(2*g.delay, firstDelay), maxDelay), now
	d.order.MoveToFront(d.byAddr[key])
	return g.delay
}

// Right forgets the wrong credentials of an address.
func (d *Delays) Right(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.byAddr[keyOf(addr)]; e != nil {
		d.drop(e)
	}
}

// Blocked reports whether so many answers to an address are held that another
// credential of it should not be looked at.
func (d *Delays) Blocked(addr netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.find(keyOf(addr))
	return g != nil && g.held > maxHeld
}

// Hold waits as long as the answer to the last wrong credential of an address is to be
// held. It ends early, with an error, when ctx ends.
func (d *Delays) Hold(ctx context.Context, addr netip.Addr) error {
	g, delay := d.enter(keyOf(addr))
	if g == nil {
		return nil
	}
	defer d.leave(g)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter counts an answer that waits; nil if there is nothing to wait for.
func (d *Delays) enter(key netip.Prefix) (*guesser, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.find(key)
	if g == nil {
		return nil, 0
	}
	g.held++
	return g, g.delay
}

// leave undoes enter. The guesser may have been forgotten meanwhile.
func (d *Delays) leave(g *guesser) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g.held--
}

// find is called with mu held.
func (d *Delays) find(key netip.Prefix) *guesser {
	if e := d.byAddr[key]; e != nil {
		return e.Value.(*guesser)
	}
	return nil
}

// add makes room for an address, and takes it in. It is called with mu held.
func (d *Delays) add(key netip.Prefix) *guesser {
	if d.byAddr == nil {
		d.byAddr = make(map[netip.Prefix]*list.Element)
	}
	if len(d.byAddr) >= maxAddresses {
		d.drop(d.order.Back())
	}
	g := &guesser{key: key}
	d.byAddr[key] = d.order.PushFront(g)
	return g
}

// forget drops the addresses that have been quiet. It is called with mu held.
func (d *Delays) forget(now time.Time) {
	for e := d.order.Back(); e != nil && now.Sub(e.Value.(*guesser).last) >= quiet; e = d.order.Back() {
		d.drop(e)
	}
}

// drop is called with mu held.
func (d *Delays) drop(e *list.Element) {
	delete(d.byAddr, e.Value.(*guesser).key)
	d.order.Remove(e)
}

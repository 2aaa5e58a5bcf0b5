package chunk

import "container/list"

// cache keeps blocks, as many bytes as its limit says. A block that is used again, by
// another read than the one that loaded it, is protected: it is evicted only after the
// blocks that were used once. So a sequential scan of any length leaves three quarters
// of the cache to blocks that are used often. It is not safe for concurrent use.
type cache struct {
	limit  int64
	blocks map[id]*cached

	recent    list.List // of *cached; used once; front: used last
	protected list.List // of *cached; used again
	size      int64     // bytes of both
	kept      int64     // bytes of protected
	unused    int64     // bytes that no caller has asked for yet

	// How many blocks were asked for only after they had been added, and how many left
	// without that.
	usedLater, unusedGone uint64
}

// cached is a block in one of the lists.
type cached struct {
	id    id
	block *Block
	place *list.Element
	// used is set when a caller has asked for the block, protected when another caller
	// has done so later.
	used, protected bool
}

func (c *cached) bytes() int64 { return int64(cap(c.block.data)) }

func (c *cache) has(key id) bool { return c.blocks[key] != nil }

// get returns a block, nil if it is not there. With sameUse the call does not count as
// another use.
func (c *cache) get(key id, sameUse bool) *Block {
	e := c.blocks[key]
	switch {
	case e == nil:
		return nil
	case e.protected:
		c.protected.MoveToFront(e.place)
	case e.used && !sameUse:
		c.protect(e)
	default:
		if !e.used {
			c.usedLater++
		}
		c.use(e)
		c.recent.MoveToFront(e.place)
	}
	return e.block
}

// use notes that a caller has asked for a block.
func (c *cache) use(e *cached) {
	if !e.used {
		e.used = true
		c.unused -= e.bytes()
	}
}

// protect moves a block that was used again to the protected ones. To make room, the
// protected blocks with the oldest use go back to the others.
func (c *cache) protect(e *cached) {
	c.recent.Remove(e.place)
	e.place, e.protected = c.protected.PushFront(e), true
	c.kept += e.bytes()
	for c.kept > c.limit/4*3 {
		old := c.protected.Remove(c.protected.Back()).(*cached)
		c.kept -= old.bytes()
		old.place, old.protected = c.recent.PushFront(old), false
	}
}

// add adds a block that is not in the cache, and makes room for it. A block that is
// larger than the whole cache is not kept.
func (c *cache) add(key id, b *Block, used bool) {
	e := &cached{id: key, block: b}
	if e.bytes() > c.limit {
		return
	}
	if c.unused += e.bytes(); used {
		c.use(e)
	}
	b.retain()
	e.place = c.recent.PushFront(e)
	c.blocks[key] = e
	c.size += e.bytes()
	for c.size > c.limit {
		c.evict()
	}
}

// evict removes one block. It removes the block that was added last only if there is no
// other.
func (c *cache) evict() {
	from := &c.recent
	if from.Len() <= 1 && c.protected.Len() > 0 {
		from = &c.protected
	}
	e := from.Remove(from.Back()).(*cached)
	if !e.used {
		c.unusedGone++
	}
	c.use(e)
	delete(c.blocks, e.id)
	c.size -= e.bytes()
	if e.protected {
		c.kept -= e.bytes()
	}
	e.block.Release()
}

func (c *cache) drop() {
	for len(c.blocks) > 0 {
		c.evict()
	}
}

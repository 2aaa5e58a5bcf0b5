// Package lru is a cache that is bounded by weight and forgets what was used
// longest ago.
package lru

import (
	"container/list"
	"sync"
)

// Cache remembers values up to a total weight; what was used longest ago goes
// first. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	limit int64

	mu      sync.Mutex
	entries map[K]*list.Element // of *entry[K, V]
	order   list.List           // front: used last
	weight  int64
}

type entry[K comparable, V any] struct {
	key    K
	value  V
	weight int64
}

// New returns a cache of at most limit weight, or one value.
func New[K comparable, V any](limit int64) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, entries: make(map[K]*list.Element)}
}

// Get returns the value of key, and whether there is one.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		var zero V
		return zero, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Put remembers a value. One that is heavier than the limit is kept alone, until
// there is another one: who uses it needs it again and again.
func (c *Cache[K, V]) Put(key K, value V, weight int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
	c.entries[key] = c.order.PushFront(&entry[K, V]{key, value, weight})
	c.weight += weight
	for c.weight > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

// Remove forgets the value of key, if there is one.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
}

func (c *Cache[K, V]) remove(e *list.Element) {
	old := c.order.Remove(e).(*entry[K, V])
	delete(c.entries, old.key)
	c.weight -= old.weight
}

// Drop forgets everything.
func (c *Cache[K, V]) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.order.Init()
	c.weight = 0
}

package lru

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := New[string, int](10)
	c.Put("a", 1, 4)
	c.Put("b", 2, 4)
	if _, ok := c.Get("a"); !ok {
		t.Fatal("a is not there")
	}
	c.Put("c", 3, 4) // needs room: b was used longest ago
	for key, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, got := c.Get(key); got != want {
			t.Errorf("%s is there: %v, want %v", key, got, want)
		}
	}
}

func TestValueHeavierThanTheCacheIsKeptAlone(t *testing.T) {
	c := New[string, int](10)
	c.Put("small", 1, 10)
	c.Put("huge", 2, 11)
	if v, ok := c.Get("huge"); !ok || v != 2 {
		t.Errorf("Get = %d, %v for a value of weight 11, want 2: it was put last", v, ok)
	}
	if _, ok := c.Get("small"); ok {
		t.Error("another value is kept beside one that is heavier than the limit")
	}
	c.Put("small", 3, 1)
	if _, ok := c.Get("huge"); ok {
		t.Error("a value heavier than the limit is kept beside another one")
	}
	if v, ok := c.Get("small"); !ok || v != 3 {
		t.Errorf("Get = %d, %v, want 3", v, ok)
	}
}

func TestDropForgetsAll(t *testing.T) {
	c := New[int, int](10)
	c.Put(1, 1, 10)
	c.Drop()
	if _, ok := c.Get(1); ok {
		t.Error("value is there after Drop")
	}
	c.Put(2, 2, 10)
	if v, ok := c.Get(2); !ok || v != 2 {
		t.Errorf("Get = %d, %v after Drop and Put, want 2", v, ok)
	}
}

// The cache is compared with one that remembers everything: what it answers
// is right, and the weight of what it answers is within the limit, unless that is
// one value alone.
func TestAgainstModel(t *testing.T) {
	const limit = 50
	rnd := rand.New(rand.NewPCG(1, 2))
	c := New[int, int](limit)
	model, weights := map[int]int{}, map[int]int64{}
	for i := range 20_000 {
		k := rnd.IntN(20)
		switch rnd.IntN(200) {
		case 0:
			c.Drop()
			clear(model)
		default:
			w := int64(rnd.IntN(limit + 5))
			c.Put(k, i, w)
			model[k], weights[k] = i, w
		}
		total, kept := int64(0), 0
		for k := range 20 {
			v, ok := c.Get(k)
			if !ok {
				continue
			}
			total += weights[k]
			kept++
			if want, known := model[k]; !known || v != want {
				t.Fatalf("step %d: Get(%d) = %d, want %d, %v", i, k, v, want, known)
			}
		}
		if total > limit && kept > 1 || total != c.weight {
			t.Fatalf("step %d: what is kept weighs %d, counted as %d, limit %d", i, total, c.weight, limit)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := New[int, int](100)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 2000 {
				k := rnd.IntN(30)
				if v, ok := c.Get(k); ok && v != k*k {
					t.Errorf("Get(%d) = %d, want %d", k, v, k*k)
				}
				c.Put(k, k*k, int64(1+rnd.IntN(20)))
				if rnd.IntN(500) == 0 {
					c.Drop()
				}
			}
		})
	}
	wg.Wait()
}

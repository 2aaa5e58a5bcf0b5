package token

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDelaysGrowAndAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Delays
		a := netip.MustParseAddr("192.0.2.1")
		want := 250 * time.Millisecond
		for i := range 10 {
			if got := d.Wrong(a); got != want {
				t.Errorf("wrong credential %d: %v, want %v", i+1, got, want)
			}
			want = min(2*want, 16*time.Second)
		}
		time.Sleep(10*time.Minute - time.Nanosecond)
		if got := d.Wrong(a); got != 16*time.Second {
			t.Errorf("after less than ten minutes: %v, want 16s", got)
		}
		time.Sleep(10 * time.Minute)
		if got := d.Wrong(a); got != 250*time.Millisecond {
			t.Errorf("after ten minutes: %v, want 250ms", got)
		}
		d.Wrong(a)
		d.Right(a)
		if got := d.Wrong(a); got != 250*time.Millisecond {
			t.Errorf("after a right one: %v, want 250ms", got)
		}
	})
}

func TestAddressesThatCountAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			a, b string
			same bool
		}{
			{"192.0.2.1", "192.0.2.2", false},
			{"192.0.2.1", "::ffff:192.0.2.1", true},
			{"2001:db8::1", "2001:db8::ffff:1", true},
			{"2001:db8::1", "2001:db8:0:1::1", false},
			{"fe80::1%eth0", "fe80::2%eth1", true},
			{"", "", true},
			{"", "192.0.2.1", false},
		} {
			var d Delays
			a, _ := netip.ParseAddr(c.a) // the zero Addr for ""
			b, _ := netip.ParseAddr(c.b)
			d.Wrong(a)
			if got := d.Wrong(b) > firstDelay; got != c.same {
				t.Errorf("%q and %q count as one: %v, want %v", c.a, c.b, got, c.same)
			}
		}
	})
}

func TestHeldAnswersBlockAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Delays
		a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")
		if err := d.Hold(t.Context(), a); err != nil {
			t.Errorf("an address without wrong credentials: %v", err)
		}
		start := time.Now()
		var all sync.WaitGroup
		for i := range 5 {
			if d.Blocked(a) {
				t.Errorf("blocked with %d held", i)
			}
			if i == 0 {
				d.Wrong(a)
			}
			all.Go(func() {
				if err := d.Hold(t.Context(), a); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if !d.Blocked(a) || d.Blocked(b) {
			t.Errorf("with five held: blocked %v, the other address %v", d.Blocked(a), d.Blocked(b))
		}
		all.Wait()
		if took := time.Since(start); took != 250*time.Millisecond {
			t.Errorf("held for %v, want 250ms", took)
		}
		if d.Blocked(a) {
			t.Error("blocked with none held")
		}
	})
}

func TestHoldEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Delays
		a := netip.MustParseAddr("192.0.2.1")
		d.Wrong(a)
		gone := errors.New("client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if err := d.Hold(ctx, a); !errors.Is(err, gone) {
			t.Errorf("Hold: %v, want %v", err, gone)
		}
		// An address that is forgotten while it is held.
		var all sync.WaitGroup
		all.Go(func() { _ = d.Hold(t.Context(), a) })
		synctest.Wait()
		d.Right(a)
		all.Wait()
		if d.Blocked(a) {
			t.Error("blocked")
		}
	})
}

func TestAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Delays
		nth := func(i uint32) netip.Addr {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, i)))
		}
		for i := range uint32(maxAddresses) {
			d.Wrong(nth(i))
		}
		d.Wrong(nth(0)) // no longer the oldest
		d.Wrong(nth(maxAddresses))
		if len(d.byAddr) != maxAddresses || d.order.Len() != maxAddresses {
			t.Errorf("%d addresses, %d in order, want %d", len(d.byAddr), d.order.Len(), maxAddresses)
		}
		if got := d.Wrong(nth(0)); got != 4*firstDelay {
			t.Errorf("an address that came again: %v, want %v", got, 4*firstDelay)
		}
		if got := d.Wrong(nth(1)); got != firstDelay {
			t.Errorf("the oldest address: %v, want %v", got, firstDelay)
		}
		time.Sleep(quiet)
		d.Wrong(nth(0))
		if len(d.byAddr) != 1 {
			t.Errorf("%d addresses after ten minutes, want 1", len(d.byAddr))
		}
	})
}

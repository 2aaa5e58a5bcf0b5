package mountpoint

import (
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

func TestBusyErrorNamesEachHolderOnce(t *testing.T) {
	cat := mounts.Holder{PID: 7, Name: "cat", How: "open", Path: "/a/x"}
	vi := mounts.Holder{PID: 8, Name: "vi\x1b", How: "open", Path: "/b/y"}
	for _, c := range []struct {
		err  *BusyError
		want string
	}{
		{&BusyError{Mounts: []mounts.Mount{{Point: "/a\n"}}}, `/a\n is in use`},
		{&BusyError{[]mounts.Mount{{Point: "/a"}}, []mounts.Holder{cat}}, "/a is in use\n  " + cat.String()},
		{&BusyError{[]mounts.Mount{{Point: "/a"}, {Point: "/b"}}, []mounts.Holder{cat, vi, cat}}, "/a, /b are in use\n  " + cat.String() + "\n  " + vi.String()},
	} {
		if got := c.err.Error(); got != c.want || !errors.Is(c.err, ErrActive) {
			t.Errorf("got %q, %v, want %q", got, errors.Is(c.err, ErrActive), c.want)
		}
	}
}

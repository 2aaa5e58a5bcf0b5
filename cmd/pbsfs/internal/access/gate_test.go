package access

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
)

// login begins a session, and returns a request that continues it.
func login(t *testing.T, g *Gate, text string) *http.Request {
	t.Helper()
	w := httptest.NewRecorder()
	if _, err := g.Begin(w, httptest.NewRequest(http.MethodPost, "/", nil), text); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func TestSessionsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(nil)
		unused, used := login(t, g, g.Once()), login(t, g, g.Once())
		for begun := time.Now(); time.Since(begun) < longest-time.Second; time.Sleep(idle - time.Second) {
			if _, err := g.Identify(used); err != nil {
				t.Fatalf("a session that is used has ended after %s: %v", time.Since(begun), err)
			}
		}
		if _, err := g.Identify(used); !errors.Is(err, ErrNobody) {
			t.Errorf("after %s, a session gives %v, want that it has ended", longest, err)
		}
		if _, err := g.Identify(unused); !errors.Is(err, ErrNobody) {
			t.Errorf("a session that was not used for %s gives %v, want that it has ended", longest, err)
		}
		soon := login(t, g, g.Once())
		time.Sleep(idle + time.Second)
		if _, err := g.Identify(soon); !errors.Is(err, ErrNobody) {
			t.Errorf("a session that was not used for %s gives %v, want that it has ended", idle, err)
		}
	})
}

// The number of sessions is bounded: the one ends that was used longest ago.
func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(nil)
		first, second := login(t, g, g.Once()), login(t, g, g.Once())
		for range maxSessions - 2 {
			time.Sleep(time.Millisecond)
			login(t, g, g.Once())
		}
		if _, err := g.Identify(first); err != nil { // it is used, the second one is not
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		login(t, g, g.Once())
		if len(g.sessions) != maxSessions {
			t.Errorf("there are %d sessions, want %d", len(g.sessions), maxSessions)
		}
		if _, err := g.Identify(first); err != nil {
			t.Errorf("a session that was used: %v", err)
		}
		if _, err := g.Identify(second); !errors.Is(err, ErrNobody) {
			t.Errorf("the session that was used longest ago gives %v, want that it has ended", err)
		}
	})
}

func openTokens(t *testing.T, path string) *token.File {
	t.Helper()
	f, err := token.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A session is worth what its token is worth, and ends with it, even if another one has
// the same name afterwards.
func TestSessionsEndWithTheirToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	add := func(role token.Role) token.Credential {
		t.Helper()
		c, err := token.Add(path, "page", role)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := add(token.Admin)
	g := NewGate(openTokens(t, path))
	r := login(t, g, c.Text())
	caller, err := g.Identify(r)
	if err != nil || caller.Role != token.Admin || !caller.MayChange || !g.Still(caller) {
		t.Fatalf("got %+v, %v", caller, err)
	}
	if err := token.Remove(path, "page"); err != nil {
		t.Fatal(err)
	}
	add(token.Audit)
	if g.Still(caller) {
		t.Error("the token was removed, and its session goes on")
	}
	if _, err := g.Identify(r); !errors.Is(err, ErrNobody) {
		t.Errorf("a session of a token that was removed gives %v, want that it has ended", err)
	}
}

// What a session changes needs its proof, and the token of the start changes nothing.
func TestChangesNeedProof(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	c, err := token.Add(path, "page", token.Admin)
	if err != nil {
		t.Fatal(err)
	}
	withFile, without := NewGate(openTokens(t, path)), NewGate(nil)
	page, start := login(t, withFile, c.Text()), login(t, without, without.Once())
	program := httptest.NewRequest(http.MethodPost, "/", nil)
	program.Header.Set("Authorization", "PBSAPIToken="+c.Text())
	for _, x := range []struct {
		what    string
		gate    *Gate
		r       *http.Request
		proof   func(Caller) string
		allowed bool
	}{
		{"a program", withFile, program, func(Caller) string { return "" }, true},
		{"a page without proof", withFile, page, func(Caller) string { return "" }, false},
		{"a page with another proof", withFile, page, func(c Caller) string { return strings.ToLower(c.Proof) }, false},
		{"a page with its proof", withFile, page, func(c Caller) string { return c.Proof }, true},
		{"a page with the token of the start", without, start, func(c Caller) string { return c.Proof }, false},
	} {
		caller, err := x.gate.Identify(x.r)
		if err != nil {
			t.Fatalf("%s: %v", x.what, err)
		}
		r := x.r.Clone(t.Context())
		r.Method = http.MethodPost
		r.Header.Set("CSRFPreventionToken", x.proof(caller))
		err = x.gate.Allow(r, caller, token.Admin, true)
		if (err == nil) != x.allowed || err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s changes something: got %v, allowed: %t", x.what, err, x.allowed)
		}
		if err := x.gate.Allow(r, caller, token.Audit, false); err != nil {
			t.Errorf("%s looks at something: %v", x.what, err)
		}
	}
}

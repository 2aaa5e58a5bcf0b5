package access

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// longest is how long a session lasts, and idle how long without a request.
	longest = 12 * time.Hour
	idle    = 2 * time.Hour
	// maxSessions bounds the number of sessions. When there are more, the one ends that
	// was used longest ago.
	maxSessions = 1000
)

// session is what the cookie of a page stands for.
type session struct {
	caller Caller
	begun  time.Time
	used   time.Time // guarded by Gate.mu, as the rest
}

// Over TLS a browser accepts the cookie only from this very host, because of its name.
const (
	cookieName       = "pbsfs-session"
	secureCookieName = "__Host-pbsfs-session"
)

// cookieOf returns the name of our cookie. Browsers do not tell the ports of a host
// apart, so the name does: two servers on one host would else end each other's sessions.
func cookieOf(r *http.Request) string {
	name := cookieName
	if r.TLS != nil {
		name = secureCookieName
	}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		name += "-" + strconv.Itoa(at.Port)
	}
	return name
}

// Begin begins a session for whoever has a token, and gives the browser its cookie.
func (g *Gate) Begin(w http.ResponseWriter, r *http.Request, text string) (Caller, error) {
	if err := g.cross.Check(r); err != nil {
		return Caller{}, fmt.Errorf("%w: the request comes from a page of another origin", ErrNotAllowed)
	}
	c, err := g.byToken(r, text)
	if err != nil {
		return Caller{}, err
	}
	c.Proof, c.session = rand.Text(), rand.Text()
	now := time.Now()
	g.mu.Lock()
	g.tidy(now)
	g.sessions[c.session] = &session{caller: c, begun: now, used: now}
	g.mu.Unlock()
	http.SetCookie(w, g.cookie(r, c.session, int(longest/time.Second)))
	return c, nil
}

// End ends the session of a caller.
func (g *Gate) End(w http.ResponseWriter, r *http.Request, c Caller) {
	g.mu.Lock()
	delete(g.sessions, c.session)
	g.mu.Unlock()
	http.SetCookie(w, g.cookie(r, "", -1))
}

func (g *Gate) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieOf(r), Value: value, Path: "/", MaxAge: age,
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// find returns the caller of the session that a cookie stands for, with the present role
// of its token.
func (g *Gate) find(key string) (Caller, error) {
	now := time.Now()
	g.mu.Lock()
	s := g.sessions[key]
	if s == nil || s.over(now) {
		delete(g.sessions, key)
		g.mu.Unlock()
		return Caller{}, fmt.Errorf("%w - the session has ended", ErrNobody)
	}
	s.used = now
	c := s.caller
	g.mu.Unlock()
	if c.once {
		return c, nil
	}
	t, err := g.tokens.Find(c.token.ID)
	if err != nil || !t.Created.Equal(c.token.Created) {
		g.mu.Lock()
		delete(g.sessions, key)
		g.mu.Unlock()
		return Caller{}, fmt.Errorf("%w - the token of the session is no longer valid", ErrNobody)
	}
	present := callerOf(t)
	present.Proof, present.session = c.Proof, c.session
	return present, nil
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.begun) > longest || now.Sub(s.used) > idle
}

// tidy makes room for one more session. The caller holds mu.
func (g *Gate) tidy(now time.Time) {
	oldest, at := "", now
	for key, s := range g.sessions {
		if s.over(now) {
			delete(g.sessions, key)
		} else if !s.used.After(at) {
			oldest, at = key, s.used
		}
	}
	if len(g.sessions) >= maxSessions {
		delete(g.sessions, oldest)
	}
}

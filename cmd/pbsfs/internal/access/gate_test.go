package access

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
)

// tokens makes a token file with one token for each role, and returns the tokens.
func tokens(t *testing.T) (path string, of map[token.Role]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "tokens.json")
	of = make(map[token.Role]string)
	for _, r := range []token.Role{token.Audit, token.Read, token.Admin} {
		c, err := token.Add(path, r.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		of[r] = c.Text()
	}
	return path, of
}

func opened(t *testing.T, path string) *Gate {
	t.Helper()
	f, err := token.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewGate(f)
}

// request makes a request with headers, given as name and value in turn.
func request(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "https://backup.example/", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestWhoMayDoWhat(t *testing.T) {
	path, of := tokens(t)
	g := opened(t, path)
	for have, text := range of {
		c, err := g.Identify(request("GET", "Authorization", "PBSAPIToken="+text))
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != "pbsfs@pbsfs!"+have.String() || c.Role != have || c.MayChange != (have == token.Admin) {
			t.Errorf("%s: got %+v", have, c)
		}
		for _, need := range []token.Role{token.Audit, token.Read, token.Admin} {
			err := g.Allow(request("PUT"), c, need, need == token.Admin)
			if may := err == nil; may != (have >= need) {
				t.Errorf("a token with the role %s, where %s is needed: %v", have, need, err)
			} else if err != nil && !errors.Is(err, ErrNotAllowed) {
				t.Errorf("%v, want %v", err, ErrNotAllowed)
			}
		}
	}
}

func TestWhoIsNotKnown(t *testing.T) {
	path, of := tokens(t)
	g := opened(t, path)
	for what, r := range map[string]*http.Request{
		"nothing":                 request("GET"),
		"another kind":            request("GET", "Authorization", "Basic cm9vdDpyb290"),
		"the server's kind":       request("GET", "Authorization", "PBSAPIToken:"+of[token.Admin]),
		"no secret":               request("GET", "Authorization", "PBSAPIToken=pbsfs@pbsfs!admin"),
		"no such session":         request("GET", "Cookie", "__Host-pbsfs-session=x"),
		"a session for no TLS":    request("GET", "Cookie", "pbsfs-session=x"),
		"the socket, with a file": request("GET").WithContext(OverSocket(t.Context())),
	} {
		if c, err := g.Identify(r); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %+v, %v, want %v", what, c, err, ErrNobody)
		}
	}
}

func TestWithoutATokenFile(t *testing.T) {
	g := NewGate(nil)
	over, err := g.Identify(request("POST").WithContext(OverSocket(t.Context())))
	if err != nil || over.Role != token.Admin || g.Allow(request("POST"), over, token.Admin, true) != nil {
		t.Errorf("over the Unix socket: %+v, %v", over, err)
	}
	once, err := g.Identify(request("GET", "Authorization", "PBSAPIToken="+g.Once()))
	if err != nil || g.Allow(request("GET"), once, token.Read, false) != nil {
		t.Errorf("with the token of the start: %+v, %v", once, err)
	}
	if err := g.Allow(request("PUT"), once, token.Admin, true); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a change with the token of the start: %v", err)
	}
	if other := NewGate(nil); other.Once() == g.Once() {
		t.Error("two starts have one token")
	}
}

// begin logs in, and returns the caller and a function that makes requests of the page.
func begin(t *testing.T, g *Gate, text string) (Caller, func(method string, headers ...string) *http.Request) {
	t.Helper()
	w := httptest.NewRecorder()
	c, err := g.Begin(w, request("POST", "Sec-Fetch-Site", "same-origin"), text)
	if err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || !cookies[0].Secure || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != "/" {
		t.Fatalf("cookies: %+v", cookies)
	}
	return c, func(method string, headers ...string) *http.Request {
		r := request(method, headers...)
		r.AddCookie(cookies[0])
		return r
	}
}

func TestChangesComeFromOurPage(t *testing.T) {
	path, of := tokens(t)
	g := opened(t, path)
	c, page := begin(t, g, of[token.Admin])
	for what, step := range map[string]struct {
		r    *http.Request
		want error
	}{
		"our page":                   {page("POST", proofHeader, c.Proof), nil},
		"our page looks":             {page("GET"), nil},
		"without the proof":          {page("POST"), ErrNotAllowed},
		"with the proof of another":  {page("POST", proofHeader, "x"+c.Proof[1:]), ErrNotAllowed},
		"a page of another site":     {page("POST", proofHeader, c.Proof, "Sec-Fetch-Site", "cross-site"), ErrNotAllowed},
		"a page of another host":     {page("POST", proofHeader, c.Proof, "Origin", "https://evil.example"), ErrNotAllowed},
		"a page of another port":     {page("POST", proofHeader, c.Proof, "Origin", "https://backup.example:81"), ErrNotAllowed},
		"a page that has no origin":  {page("POST", proofHeader, c.Proof, "Origin", "null"), ErrNotAllowed},
		"our page, says the browser": {page("POST", proofHeader, c.Proof, "Origin", "https://backup.example", "Sec-Fetch-Site", "same-origin"), nil},
	} {
		who, err := g.Identify(step.r)
		if err == nil {
			err = g.Allow(step.r, who, token.Admin, step.r.Method != "GET")
		}
		if !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", what, err, step.want)
		}
	}
	if _, err := g.Begin(httptest.NewRecorder(), request("POST", "Origin", "https://evil.example"), of[token.Admin]); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a foreign page logs us in: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	path, of := tokens(t)
	for what, end := range map[string]func(g *Gate, c Caller){
		"by logging out":          func(g *Gate, c Caller) { g.End(httptest.NewRecorder(), request("DELETE"), c) },
		"when nobody uses them":   func(*Gate, Caller) { time.Sleep(idle + time.Second) },
		"when there are too many": func(g *Gate, _ Caller) { fill(t, g, of[token.Read]) },
		"with their token":        func(*Gate, Caller) { remove(t, path, "admin") },
	} {
		synctest.Test(t, func(t *testing.T) {
			g := opened(t, path)
			c, page := begin(t, g, of[token.Admin])
			if !g.Still(c) {
				t.Errorf("%s: it has ended before", what)
			}
			end(g, c)
			if _, err := g.Identify(page("GET")); !errors.Is(err, ErrNobody) || g.Still(c) {
				t.Errorf("%s: %v, still there: %t", what, err, g.Still(c))
			}
		})
		path, of = tokens(t)
	}
	synctest.Test(t, func(t *testing.T) { // whoever goes on using one has it for half a day
		g := opened(t, path)
		c, _ := begin(t, g, of[token.Admin])
		began := time.Now()
		for g.Still(c) {
			time.Sleep(time.Hour)
		}
		if d := time.Since(began); d < longest || d > longest+time.Hour {
			t.Errorf("it lasted %s", d)
		}
	})
}

// fill begins as many sessions as there may be.
func fill(t *testing.T, g *Gate, text string) {
	t.Helper()
	time.Sleep(time.Second) // these are younger
	for range maxSessions {
		begin(t, g, text)
	}
	if n := len(g.sessions); n != maxSessions {
		t.Errorf("%d sessions, want %d", n, maxSessions)
	}
}

func remove(t *testing.T, path, name string) {
	t.Helper()
	if err := token.Remove(path, name); err != nil {
		t.Error(err)
	}
}

func TestGuessingGetsSlow(t *testing.T) {
	path, of := tokens(t)
	synctest.Test(t, func(t *testing.T) {
		g := opened(t, path)
		guess := func() error {
			_, err := g.Identify(request("GET", "Authorization", "PBSAPIToken=pbsfs@pbsfs!admin:guess"))
			return err
		}
		var before time.Duration
		for range 5 {
			began := time.Now()
			if err := guess(); !errors.Is(err, ErrNobody) {
				t.Fatal(err)
			}
			if d := time.Since(began); d <= before {
				t.Errorf("an answer came after %s, the one before after %s", d, before)
			} else {
				before = d
			}
		}
		for range 20 { // guesses in parallel are no way round
			go func() { _ = guess() }()
		}
		synctest.Wait()
		if _, err := g.Identify(request("GET", "Authorization", "PBSAPIToken="+of[token.Read])); !errors.Is(err, ErrTooMany) {
			t.Errorf("while many guesses wait: %v, want %v", err, ErrTooMany)
		}
		other := request("GET", "Authorization", "PBSAPIToken="+of[token.Read])
		other.RemoteAddr = "192.0.2.99:1234"
		if _, err := g.Identify(other); err != nil {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestWhoGoesDoesNotWait(t *testing.T) {
	path, _ := tokens(t)
	g := opened(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := request("GET", "Authorization", "PBSAPIToken=pbsfs@pbsfs!admin:guess").WithContext(ctx)
	if _, err := g.Identify(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
)

var (
	// ErrNobody says that a request comes from nobody who is known.
	ErrNobody = errors.New("authentication failed")
	// ErrNotAllowed says that the caller is known, and may not do this.
	ErrNotAllowed = errors.New("permission check failed")
	// ErrTooMany says that an address has shown too many wrong tokens.
	ErrTooMany = errors.New("too many wrong tokens from this address; try again later")
)

// Caller is who sends a request.
type Caller struct {
	// Name is the ID of the caller's token, or says over what the request came.
	Name string
	Role token.Role
	// MayChange says whether modes may be changed, if the role allows that too.
	MayChange bool
	// Proof is what the changes of a page must show; "" if the caller has no session.
	Proof string

	session string // key in Gate.sessions
	token   token.Token
	once    bool // the token of the start
}

// Gate knows the callers. It is safe for concurrent use.
type Gate struct {
	tokens *token.File // nil without a token file
	once   string      // the token of the start, if there is no file
	delays token.Delays
	cross  *http.CrossOriginProtection

	mu       sync.Mutex
	sessions map[string]*session
}

// onceName is the name of the token that is printed at the start.
const onceName = "pbsfs@pbsfs!start"

// NewGate returns a gate. tokens may be nil; then [Gate.Once] is the only token.
func NewGate(tokens *token.File) *Gate {
	g := &Gate{tokens: tokens, cross: http.NewCrossOriginProtection(), sessions: make(map[string]*session)}
	if tokens == nil {
		g.once = onceName + ":" + rand.Text()
	}
	return g
}

// Once returns the token that is valid until the server ends, "" if there is a token
// file.
func (g *Gate) Once() string { return g.once }

type overSocket struct{}

// OverSocket marks the requests of a connection as those over the private Unix socket.
func OverSocket(ctx context.Context) context.Context {
	return context.WithValue(ctx, overSocket{}, true)
}

// scheme is how a token stands in the header Authorization.
const scheme = "PBSAPIToken"

// proofHeader is the header in which the changes of a page show that they are the page's.
const proofHeader = "CSRFPreventionToken"

// Identify finds out who sends a request. The error matches [ErrNobody], [ErrTooMany] or
// [ErrNotAllowed], or says what is wrong with the token file.
func (g *Gate) Identify(r *http.Request) (Caller, error) {
	if err := g.cross.Check(r); err != nil {
		return Caller{}, fmt.Errorf("%w: the request comes from a page of another origin", ErrNotAllowed)
	}
	if text := r.Header.Get("Authorization"); text != "" {
		return g.byHeader(r, text)
	}
	if c, err := r.Cookie(cookieOf(r)); err == nil {
		return g.find(c.Value)
	}
	if local, _ := r.Context().Value(overSocket{}).(bool); local && g.tokens == nil {
		return Caller{Name: "Unix socket", Role: token.Admin, MayChange: true}, nil
	}
	//lint:ignore ST1005 the text is that of PBS
	return Caller{}, fmt.Errorf("%w - no authentication credentials provided.", ErrNobody) //nolint:staticcheck // as above
}

func (g *Gate) byHeader(r *http.Request, text string) (Caller, error) {
	kind, rest, ok := strings.Cut(text, "=")
	if !ok || kind != scheme {
		return Caller{}, fmt.Errorf("%w - only API tokens are known here: Authorization: %s=USER@REALM!NAME:SECRET", ErrNobody, scheme)
	}
	return g.byToken(r, rest)
}

// byToken checks a token. The answer to a wrong one is delayed.
func (g *Gate) byToken(r *http.Request, text string) (Caller, error) {
	from := addressOf(r)
	if g.delays.Blocked(from) {
		return Caller{}, ErrTooMany
	}
	c, err := g.check(text)
	if !errors.Is(err, token.ErrWrong) {
		if err == nil {
			g.delays.Right(from)
		}
		return c, err
	}
	g.delays.Wrong(from)
	if err := g.delays.Hold(r.Context(), from); err != nil {
		return Caller{}, err
	}
	return Caller{}, fmt.Errorf("%w - %w", ErrNobody, err)
}

// check compares a token with those that are valid.
func (g *Gate) check(text string) (Caller, error) {
	if g.tokens == nil {
		if subtle.ConstantTimeCompare([]byte(text), []byte(g.once)) != 1 {
			return Caller{}, token.ErrWrong
		}
		return Caller{Name: onceName, Role: token.Read, once: true}, nil
	}
	c, err := token.ParseCredential(text)
	if err != nil {
		return Caller{}, token.ErrWrong
	}
	t, err := g.tokens.Check(c)
	if err != nil {
		return Caller{}, err
	}
	return callerOf(t), nil
}

func callerOf(t token.Token) Caller {
	return Caller{Name: t.ID.String(), Role: t.Role, MayChange: t.Role.May(token.Admin), token: t}
}

// Still reports whether the caller would be let in again: its token may have been
// removed, and its session may have ended.
func (g *Gate) Still(c Caller) bool {
	if c.session != "" {
		_, err := g.find(c.session)
		return err == nil
	}
	if c.token.ID == (token.ID{}) {
		return true
	}
	now, err := g.tokens.Find(c.token.ID)
	return err == nil && now.Created.Equal(c.token.Created)
}

// Allow returns an error unless the caller may do what needs a role. A request that
// changes something must come from a program, or from our own page.
func (g *Gate) Allow(r *http.Request, c Caller, need token.Role, changes bool) error {
	if changes && c.Proof != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get(proofHeader)), []byte(c.Proof)) != 1 {
		return fmt.Errorf("%w: a change needs the header %s of this session", ErrNotAllowed, proofHeader)
	}
	if changes && need == token.Admin && c.once {
		return fmt.Errorf("%w: the token of the start changes nothing; 'pbsfs serve token add NAME --role admin' makes one that may", ErrNotAllowed)
	}
	if !c.Role.May(need) {
		return fmt.Errorf("%w: this needs a token with the role %s, and %s has the role %s", ErrNotAllowed, need, c.Name, c.Role)
	}
	return nil
}

// addressOf returns the address of the other side, the zero address for a Unix socket.
func addressOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

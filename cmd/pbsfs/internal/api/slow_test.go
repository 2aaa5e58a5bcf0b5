package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/web"
)

// pipes is a listener whose connections have no buffer: what one side does not read, the
// other cannot write.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// ending is the server's side of a connection, which tells when it is closed.
type ending struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (e *ending) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// dial connects, and sends a request. closed tells that the server has given up.
func (p *pipes) dial(t *testing.T, request string) (client net.Conn, closed chan struct{}) {
	t.Helper()
	client, server := net.Pipe()
	e := &ending{Conn: server, closed: make(chan struct{})}
	p.conns <- e
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	return client, e.closed
}

// serveOn serves until the result is called.
func serveOn(t *testing.T, p *pipes, h http.Handler) (end func()) {
	t.Helper()
	s, err := web.Serve([]*web.Listener{{Listener: p, Loopback: true}}, web.Options{Handler: h, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// after fails the test unless the connection is closed after just that time.
func after(t *testing.T, want time.Duration, closed chan struct{}) {
	t.Helper()
	start := time.Now()
	select {
	case <-closed:
		if took := time.Since(start); took != want {
			t.Errorf("given up after %s, want %s", took, want)
		}
	case <-time.After(time.Hour):
		t.Fatal("never given up")
	}
}

func newAPI(changes *watch.Source) (a *API, auth string) {
	gate := access.NewGate(nil)
	a = New(Options{Gate: gate, Changes: changes, Log: slog.New(slog.DiscardHandler), Downloads: 1})
	return a, "Host: x\r\nAuthorization: PBSAPIToken=" + gate.Once() + "\r\n"
}

// Who listens to events and does not read them is given up, and is in nobody's way.
func TestWhoDoesNotReadEventsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		changes := watch.NewSource(func(context.Context) ([]status.Store, error) {
			return []status.Store{{Datastore: "tank", Message: fmt.Sprint(looks.Add(1))}}, nil // each time another one
		})
		a, auth := newAPI(changes)
		p := newPipes()
		end := serveOn(t, p, a.Handler())
		request := "GET /api2/json/pbsfs/events HTTP/1.1\r\n" + auth + "\r\n"
		quick, quickClosed := p.dial(t, request)
		var told atomic.Int64
		go func() {
			for lines := bufio.NewScanner(quick); lines.Scan(); {
				if lines.Text() == "event: datastore" {
					told.Add(1)
				}
			}
		}()
		slow, closed := p.dial(t, request)
		after(t, eventTime, closed)
		before := told.Load()
		if want := int64(eventTime / watch.Every); before < want {
			t.Errorf("while one did not read, the other was told %d changes in %s, want %d", before, eventTime, want)
		}
		time.Sleep(heartbeat)
		select {
		case <-quickClosed:
			t.Error("who reads was given up, too")
		default:
		}
		if told.Load() == before {
			t.Error("who reads is told nothing any more")
		}
		_, _ = slow.Close(), quick.Close()
		<-quickClosed
		synctest.Wait()
		seen := looks.Load()
		time.Sleep(10 * watch.Every)
		if n := looks.Load() - seen; n > 1 {
			t.Errorf("%d looks while nobody listens", n)
		}
		a.End()
		end()
	})
}

// The streams of events end with the server.
func TestEventsEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, auth := newAPI(watch.NewSource(func(context.Context) ([]status.Store, error) { return nil, nil }))
		p := newPipes()
		end := serveOn(t, p, a.Handler())
		c, closed := p.dial(t, "GET /api2/json/pbsfs/events HTTP/1.1\r\n"+auth+"\r\n")
		got := make(chan string)
		go func() {
			text, _ := io.ReadAll(c)
			got <- string(text)
		}()
		time.Sleep(3 * heartbeat)
		a.End()
		end()
		<-closed
		text := <-got
		if n := strings.Count(text, "event: alive"); n != 3 || !strings.Contains(text, "event: hello") {
			t.Errorf("in %s, it was told: %q, want hello and three signs of life", 3*heartbeat, text)
		}
		if !strings.HasSuffix(text, "\r\n0\r\n\r\n") {
			t.Errorf("the stream was cut off: %q", text)
		}
	})
}

// Who listens with a token that is removed is told nothing more.
func TestEventsEndWithTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		c, err := token.Add(path, "page", token.Audit)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := token.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		a := New(Options{
			Gate: access.NewGate(tokens), Log: slog.New(slog.DiscardHandler), Downloads: 1,
			Changes: watch.NewSource(func(context.Context) ([]status.Store, error) { return nil, nil }),
		})
		p := newPipes()
		end := serveOn(t, p, a.Handler())
		client, _ := p.dial(t, "GET /api2/json/pbsfs/events HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken="+c.Text()+"\r\n\r\n")
		got, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(heartbeat / 2)
		if err := token.Remove(path, "page"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		text, err := io.ReadAll(got.Body)
		if took := time.Since(start); err != nil || took > heartbeat || strings.Contains(string(text), "alive") {
			t.Errorf("%s after the token was removed: got %q, %v, want the end of the stream", took, text, err)
		}
		_ = client.Close()
		a.End()
		end()
	})
}

// A download goes on as long as its client reads, however slowly; and no longer.
func TestDownloadsGoOnAsLongAsTheClientReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(nil)
		p := newPipes()
		ended := make(chan error, 1) // how the download did
		end := serveOn(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := &call{API: a, w: w, r: r}
			err := c.archive("x.zip", mediaZip, func(w io.Writer) error {
				for {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return err
					}
				}
			})
			ended <- err
			panic(http.ErrAbortHandler)
		}))
		client, closed := p.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		defer end()
		defer client.Close()
		for range 50 { // far longer in all than a client may take for one piece
			time.Sleep(writeTime - time.Second)
			if _, err := io.ReadFull(client, make([]byte, 128<<10)); err != nil {
				t.Fatalf("a client that reads was given up: %v", err)
			}
		}
		synctest.Wait()
		start := time.Now()
		select {
		case <-closed:
			if took := time.Since(start); took > writeTime {
				t.Errorf("given up after %s, want %s at most", took, writeTime)
			}
		case <-time.After(time.Hour):
			t.Fatal("never given up")
		}
		if err := <-ended; !errors.Is(err, errCutOff) {
			t.Errorf("the download ended with %v, want that it was cut off", err)
		}
	})
}

// Who sends a body too slowly is told so.
func TestSlowBodiesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAPI(nil)
		p := newPipes()
		end := serveOn(t, p, a.Handler())
		defer end()
		client, _ := p.dial(t, "POST /api2/json/pbsfs/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"token\":")
		defer client.Close()
		start := time.Now()
		got, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(got.Body)
		if took := time.Since(start); got.StatusCode != http.StatusRequestTimeout || took != bodyTime || !strings.Contains(string(text), bodyTime.String()) {
			t.Errorf("after %s: got %s, %q; want 408 after %s", took, got.Status, text, bodyTime)
		}
	})
}

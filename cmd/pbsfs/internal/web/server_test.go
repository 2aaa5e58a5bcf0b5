package web

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// one is a listener with a single connection.
type one struct {
	conn chan net.Conn
	done chan struct{}
}

func (o *one) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	}
}

func (o *one) Close() error {
	select {
	case <-o.done:
	default:
		close(o.done)
	}
	return nil
}

func (o *one) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// A client that sends its headers too slowly, or nothing more, does not keep its
// connection.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	for _, c := range []struct {
		what, sends string
		answers     bool
		lasts       time.Duration
	}{
		{"nothing", "", false, headerTime},
		{"half a line", "GET /", false, headerTime},
		{"half of the headers", "GET / HTTP/1.1\r\nHost: x\r\nX: ", false, headerTime},
		{"half of a body that nobody reads", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", true, bodyTime},
		{"no end of a body that nobody reads", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", true, bodyTime},
		{"a request, and no more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, idleTime},
		{"a request, and half of the next", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", true, headerTime},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &one{make(chan net.Conn), make(chan struct{})}
				s, err := Serve([]*Listener{{Listener: l, Loopback: true}}, Options{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }),
					Log:     slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				client, server := net.Pipe()
				l.conn <- server
				start := time.Now()
				go func() { _, _ = io.WriteString(client, c.sends) }()
				in := bufio.NewReader(client)
				if c.answers {
					got, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatal(err)
					}
					if text, err := io.ReadAll(got.Body); string(text) != "done" || err != nil {
						t.Errorf("got %q, %v", text, err)
					}
				}
				rest, err := io.ReadAll(in)
				if took := time.Since(start); took > c.lasts+time.Second || took < c.lasts || err != nil || strings.Contains(string(rest), "200 OK") {
					t.Errorf("after %s: got %q, %v; want the end of the connection after %s", took, rest, err, c.lasts)
				}
				if err := s.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

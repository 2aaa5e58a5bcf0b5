package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// maxConnections bounds the connections at one listener.
	maxConnections = 4096
	// maxHeader bounds the headers of a request, in bytes.
	maxHeader = 32 << 10
	// headerTime is how long a client may take to send them.
	headerTime = 10 * time.Second
	// bodyTime is how long it may take to send a body that the handler does not ask for,
	// for example because the request is refused.
	bodyTime = 20 * time.Second
	// idleTime is how long a connection may wait for its next request.
	idleTime = 2 * time.Minute
)

// Options say how a Server answers.
type Options struct {
	Handler http.Handler
	// TLS is the certificate; nil to speak without TLS.
	TLS *tls.Certificate
	// Tokens says that there is a token file, so that more than this host may be
	// listened to.
	Tokens bool
	// Open says that anybody may ask, from wherever the listeners can be reached.
	Open bool
	// Mark is called with the context of each connection over a private Unix socket.
	Mark func(context.Context) context.Context
	Log  *slog.Logger
}

// Server answers requests. Its owner must Stop it.
type Server struct {
	http      *http.Server
	listeners []*Listener
	failed    chan error
}

// Check returns an error if requests must not arrive at a listener.
func (o Options) Check(l *Listener) error {
	switch {
	case o.Open:
		return nil
	case l.IsUnix() && !l.Private && !o.Tokens:
		return fmt.Errorf("%s %w by other users, and there is no token file; first: pbsfs serve token add NAME --role ROLE", l.Addr(), errReached)
	case l.Loopback:
		return nil
	case !o.Tokens:
		return fmt.Errorf("%s %w, and there is no token file; first: pbsfs serve token add NAME --role ROLE", l.Addr(), ErrExposed)
	case o.TLS == nil:
		return fmt.Errorf("%s %w: --no-tls is for this host alone", l.Addr(), ErrExposed)
	}
	return nil
}

var errReached = errors.New("can be reached")

// Serve begins to answer.
func Serve(listeners []*Listener, o Options) (*Server, error) {
	for _, l := range listeners {
		if err := o.Check(l); err != nil {
			return nil, err
		}
	}
	s := &Server{listeners: listeners, failed: make(chan error, len(listeners))}
	s.http = &http.Server{
		Handler:           guarded(o.Handler),
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		// What clients do wrong is not worth a line, and may contain what they sent.
		ErrorLog: log.New(quiet{o.Log}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if _, ok := c.(private); ok && o.Mark != nil {
				return o.Mark(ctx)
			}
			return ctx
		},
	}
	for _, l := range listeners {
		at := netutil.LimitListener(l, maxConnections)
		switch {
		case l.IsUnix() && l.Private:
			at = privateListener{at}
		case !l.IsUnix() && o.TLS != nil:
			config := &tls.Config{Certificates: []tls.Certificate{*o.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
			at = tls.NewListener(at, config)
		}
		go func() {
			if err := s.http.Serve(at); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("listening on %s: %w", l.Addr(), err)
			}
		}()
	}
	return s, nil
}

// Failed tells that a listener has ended although nobody has stopped the server.
func (s *Server) Failed() <-chan error { return s.failed }

// Stop takes no more requests, and waits until those under way have ended. If ctx ends
// before, their connections are cut off, and the error is that of ctx.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
	return err
}

// privateListener marks its connections as private.
type privateListener struct{ net.Listener }

type private struct{ net.Conn }

func (l privateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return private{c}, nil
}

// quiet logs what the library says of its clients, at the lowest level.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.Debug("http", "message", string(p))
	return len(p), nil
}

// guarded adds the headers that every answer has, and bounds the time for a body.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if r.ContentLength != 0 {
			// The library reads the rest of a body before it answers, if need be for ever.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		next.ServeHTTP(w, r)
	})
}

package web

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, address string) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestWhereRequestsMayComeFrom(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared")
	private := listen(t, "unix:"+filepath.Join(t.TempDir(), "private"))
	open, err := net.Listen("unix", shared)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := os.Chmod(shared, 0o666); err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{}
	loopback, everywhere := listen(t, "127.0.0.1:0"), listen(t, "0.0.0.0:0")
	for _, c := range []struct {
		what   string
		l      *Listener
		tls    *tls.Certificate
		tokens bool
		want   error
	}{
		{"this host, without anything", loopback, nil, false, nil},
		{"this host by its other name", listen(t, "localhost:0"), nil, false, nil},
		{"a socket of our own", private, nil, false, nil},
		{"a socket of all users", describe(open), nil, false, errReached},
		{"a socket of all users, with tokens", describe(open), nil, true, nil},
		{"everywhere", everywhere, nil, false, ErrExposed},
		{"everywhere, with tokens alone", everywhere, nil, true, ErrExposed},
		{"everywhere, with TLS alone", everywhere, cert, false, ErrExposed},
		{"everywhere, with both", everywhere, cert, true, nil},
	} {
		if err := (Options{TLS: c.tls, Tokens: c.tokens}).Check(c.l); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, sock := listen(t, "127.0.0.1:0"), filepath.Join(dir, "taken")
	listen(t, "unix:"+sock)
	for address, want := range map[string]error{
		"8017":                  ErrAddress,
		"":                      ErrAddress,
		"unix:":                 ErrAddress,
		"unix:" + file:          ErrAddress,
		taken.Addr().String():   unix.EADDRINUSE,
		"unix:" + sock:          unix.EADDRINUSE,
		"unix:" + dir + "/no/x": os.ErrNotExist,
	} {
		l, err := Listen(t.Context(), address)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", address, err, want)
		}
		if err == nil {
			_ = l.Close()
		}
	}
	if text, err := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("the file says %q, %v", text, err)
	}
}

func TestUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := listen(t, "unix:"+path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v, want mode 0600", info.Mode(), err)
	}
	if err := l.Listener.Close(); err != nil { // as if the process had been killed
		t.Fatal(err)
	}
	again := listen(t, "unix:"+path)
	if err := l.Close(); err == nil {
		t.Error("it was closed already")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of another listener was removed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestStopWaitsForRequests(t *testing.T) {
	l, arrived, answer := listen(t, "127.0.0.1:0"), make(chan struct{}), make(chan struct{})
	s, err := Serve([]*Listener{l}, Options{Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		_, _ = io.WriteString(w, "whole")
	})})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		got <- string(text) + r.Header.Get("X-Frame-Options")
	}()
	<-arrived
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.http.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it has not waited: %v", err)
	}
	close(answer)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if text := <-got; text != "wholeDENY" {
		t.Errorf("got %q", text)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestOnlyThePrivateSocketIsMarked(t *testing.T) {
	type mark struct{}
	private, tcp := listen(t, "unix:"+filepath.Join(t.TempDir(), "s")), listen(t, "127.0.0.1:0")
	s, err := Serve([]*Listener{private, tcp}, Options{
		Log:  slog.New(slog.DiscardHandler),
		Mark: func(ctx context.Context) context.Context { return context.WithValue(ctx, mark{}, true) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Value(mark{}) != nil {
				_, _ = io.WriteString(w, "private")
			}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(t.Context()) }()
	for _, l := range []*Listener{private, tcp} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, l.Addr().Network(), l.Addr().String())
		}}}
		r, err := client.Get("http://any/")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if got := strings.Contains(string(text), "private"); got != l.Private {
			t.Errorf("%s: marked: %t", l.Addr(), got)
		}
	}
}

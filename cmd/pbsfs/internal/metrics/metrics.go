package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/web"
)

// Path is where the numbers are.
const Path = "/metrics"

// Numbers are what is shown to Prometheus.
type Numbers struct {
	Errors   *Errors
	registry *prometheus.Registry
}

// New returns the numbers of this process, and of the datastores that look returns. It is
// called each time somebody asks, by several at once, and must not wait.
func New(version string, look func() []Datastore) *Numbers {
	n := &Numbers{Errors: newErrors(), registry: prometheus.NewRegistry()}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pbsfs_build_info", Help: "The version of pbsfs; the value is always 1.",
		ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	n.registry.MustRegister(build, &collector{look, n.Errors},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return n
}

// Requests returns a handler that counts the requests to another one: by status and, for
// those that were answered to their end, the sizes of the answers.
func (n *Numbers) Requests(next http.Handler) http.Handler {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pbsfs_http_requests_total", Help: "Requests over HTTP that were answered to their end, by status.",
	}, []string{"code"})
	size := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pbsfs_http_response_bytes_total", Help: "Bytes of answers over HTTP, those that were cut off included.",
	})
	n.registry.MustRegister(requests, size)
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&sized{w, size}, r) })
	return promhttp.InstrumentHandlerCounter(requests, counted)
}

// sized counts the bytes of an answer.
type sized struct {
	http.ResponseWriter
	size prometheus.Counter
}

func (s *sized) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.size.Add(float64(n))
	return n, err
}

// Unwrap is for [http.ResponseController].
func (s *sized) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush sends what was written so far.
func (s *sized) Flush() { _ = http.NewResponseController(s.ResponseWriter).Flush() }

// Address is where the numbers are asked for.
type Address struct {
	// At is HOST:PORT or unix:PATH, "" for nowhere.
	At string
	// Exposed allows an address that more than this host can reach.
	Exposed bool
}

// Complete checks what it can check without listening, and makes a path independent of the
// working directory.
func (a *Address) Complete() error {
	if a.Exposed && a.At == "" {
		return usage.Errorf("--metrics-exposed says more about --metrics, which is not given")
	}
	path, ok := strings.CutPrefix(a.At, "unix:")
	switch {
	case a.At == "":
		return nil
	case ok && path != "":
		full, err := filepath.Abs(path)
		a.At = "unix:" + full
		return err
	}
	_, port, err := net.SplitHostPort(a.At)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return usage.Errorf("--metrics %q: no address to listen on: say HOST:PORT or unix:PATH", a.At)
	}
	return nil
}

// Socket returns the path of the Unix socket, "" if there is none.
func (a Address) Socket() string {
	path, ok := strings.CutPrefix(a.At, "unix:")
	if !ok {
		return ""
	}
	return path
}

// Privileged reports whether only root may listen there.
func (a Address) Privileged() bool {
	_, port, err := net.SplitHostPort(a.At)
	if err != nil || a.Socket() != "" {
		return false
	}
	n, err := net.LookupPort("tcp", port)
	return err == nil && n > 0 && n < firstFreePort
}

// firstFreePort is the first port on which every user may listen.
const firstFreePort = 1024

// Server answers who asks for the numbers. Its owner must Close it.
type Server struct{ server *web.Server }

// Listen begins to listen. Without an address it returns nil. The caller must Close the
// listener, or hand it to Serve.
func (a Address) Listen(ctx context.Context) (*web.Listener, error) {
	if a.At == "" {
		return nil, nil
	}
	l, err := web.Listen(ctx, a.At)
	if errors.Is(err, web.ErrAddress) {
		return nil, usage.Errorf("--metrics: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	if !l.Loopback && !a.Exposed {
		at := l.Addr()
		_ = l.Close()
		return nil, usage.Errorf("--metrics: %s %w, and there is no login: name an address of this host alone, or add --metrics-exposed", at, web.ErrExposed)
	}
	return l, nil
}

// Serve answers at a listener, which it closes at the end. It may be nil.
func (n *Numbers) Serve(l *web.Listener, log *slog.Logger) (*Server, error) {
	if l == nil {
		return nil, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, n.handler())
	s, err := web.Serve([]*web.Listener{l}, web.Options{Handler: mux, Open: true, Log: log})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Server{s}, nil
}

const (
	// maxAnswers bounds how many may ask at once.
	maxAnswers = 4
	// answerTime bounds how long the numbers are collected.
	answerTime = 10 * time.Second
)

func (n *Numbers) handler() http.Handler {
	return promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxAnswers, Timeout: answerTime})
}

// Close stops answering. It may be called on nil.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	_ = s.server.Stop(ctx) // whoever still listens then is cut off
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/api"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/certificate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/metrics"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/page"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/web"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
)

// serveOptions are the flags of the serve command.
type serveOptions struct {
	openOptions
	diskCache   diskCacheOptions
	named       []string
	listen      []string
	cert, key   string
	noTLS       bool
	tokenFile   string
	ui          bool
	downloads   int
	stopTimeout time.Duration
	logTo       string
	style       logStyle
	metrics     metrics.Address
}

const (
	// defaultListen is where requests are expected.
	defaultListen = "127.0.0.1:8017"
	// serveCache is the memory for decoded chunks of each datastore that was read.
	serveCache = 64 << 20
)

const serveHelp = `Serve an API and a page for the browser, for all datastores of the configuration
and for those that are named, until the process is stopped.

The page shows what goes on with each datastore, sets and clears its maintenance
mode, and gives out files. The API speaks as a Proxmox Backup Server does, at
/api2/json, as far as there are words for it; /api2/openapi.json describes it all.
Datastores are read as by a mount: each download is an operation that others see.

--listen is HOST:PORT or unix:PATH, and may be given more than once; sockets that
systemd has opened are used if it is not given.

Who may: with tokens ('pbsfs serve token add'), whoever shows one, as far as its role
goes: audit sees status and lists, read also contents, admin also changes modes.
Without a token file, whoever can reach the Unix socket, which is for its owner alone,
may do everything; and on this host one token, which is printed once, may read until
the process ends.

TLS is spoken with the certificate that is given, or with one that is made at the
first start; its fingerprint is printed. --no-tls is for this host alone.

SIGTERM ends the process: it takes no more requests, waits for downloads
(--stop-timeout), and cuts off the rest; if it had to, it names them and exits with 1.
A second signal ends the wait.`

func newServeCommand(a *app) *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:               "serve [DATASTORE...]",
		Short:             "serve an API, and a page for the browser",
		Long:              serveHelp,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: a.completeDatastores(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.named = args
			if err := o.check(); err != nil {
				return err
			}
			return a.startServe(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.register(f)
	o.cacheSize = serveCache
	f.Lookup("cache-size").DefValue = o.cacheSize.String()
	f.Lookup("cache-size").Usage = "memory for decoded chunks of each datastore"
	o.diskCache.register(f)
	f.StringArrayVar(&o.listen, "listen", nil, "where to listen: HOST:PORT or unix:PATH (default "+defaultListen+")")
	f.StringVar(&o.cert, "tls-cert", "", "a file with the certificate and its chain, PEM")
	f.StringVar(&o.key, "tls-key", "", "a file with the key of the certificate, PEM")
	f.BoolVar(&o.noTLS, "no-tls", false, "speak without TLS, on this host alone")
	f.BoolVar(&o.ui, "ui", true, "serve the page for the browser")
	f.IntVar(&o.downloads, "max-downloads", 64, "how many downloads may be under way at once")
	f.DurationVar(&o.stopTimeout, "stop-timeout", 10*time.Second, "how long SIGTERM waits for downloads")
	f.StringVar(&o.logTo, "log", "", "where the log goes: journal, syslog or a FILE; without it the standard error")
	o.style.register(f)
	registerMetrics(f, &o.metrics)
	cmd.PersistentFlags().StringVar(&o.tokenFile, "token-file", "", "the file with the tokens (default tokens.json in the directory of pbsfs's configuration)")
	cmd.AddCommand(newTokenCommand(a, &o.tokenFile))
	return cmd
}

// check checks what it can check from the command line alone.
func (o *serveOptions) check() error {
	switch {
	case (o.cert == "") != (o.key == ""):
		return usage.Errorf("--tls-cert and --tls-key belong together")
	case o.noTLS && o.cert != "":
		return usage.Errorf("--no-tls and --tls-cert exclude each other")
	case o.downloads < 1:
		return usage.Errorf("--max-downloads %d: at least one must be possible", o.downloads)
	case o.stopTimeout < 0:
		return usage.Errorf("--stop-timeout %s: cannot be negative", o.stopTimeout)
	}
	if err := o.style.check(); err != nil {
		return err
	}
	return o.metrics.Complete()
}

// absolute makes paths independent of the working directory, which is left: it would keep
// its file system in use.
func (o *serveOptions) absolute() (err error) {
	for i, arg := range o.named {
		if locate.IsPath(arg) {
			if o.named[i], err = filepath.Abs(arg); err != nil {
				return err
			}
		}
	}
	if o.tokenFile != "" {
		o.tokenFile, err = filepath.Abs(o.tokenFile)
	}
	return err
}

// startServe opens the keys and serves. If there are keys or passphrases, it starts this
// program anew first, so that the program that serves never had the passphrases.
func (a *app) startServe(ctx context.Context, o *serveOptions) error {
	handed, err := takeSecrets(a.getenv)
	if err != nil {
		return err
	}
	if handed == nil {
		s, err := a.keyring().Open(ctx, o.Options)
		if err != nil {
			return err
		}
		if !s.Empty() || len(unlock.WithoutPassphrases(os.Environ())) < len(os.Environ()) {
			return a.reexec(ctx, s)
		}
		handed = s
	}
	if !handed.Empty() {
		if err := unlock.GuardMemory(); err != nil {
			return err
		}
	}
	return a.serveRequests(ctx, o, handed)
}

// serving is what a process that serves requests has.
type serving struct {
	app      *app
	o        *serveOptions
	host     hosts.Host
	log      *slog.Logger
	gate     *access.Gate
	stores   *api.Stores
	readings *served.Readings
	numbers  *metrics.Numbers // nil if nobody is shown any
	api      *api.API
	server   *web.Server
}

// serveRequests serves until a signal comes.
func (a *app) serveRequests(ctx context.Context, o *serveOptions, s *unlock.Secrets) (err error) {
	unconfined := a.confineServe()
	host, err := a.host()
	if err != nil {
		return err
	}
	if err := o.absolute(); err != nil {
		return err
	}
	for _, arg := range o.named {
		if _, err := locate.Resolve(host, arg); err != nil {
			return err
		}
	}
	log, closeLog, err := a.openLog(logOptions{to: o.logTo, foreground: true, style: o.style}, host)
	if err != nil {
		return err
	}
	defer closeLog()
	if unconfined != nil {
		log.Warn("this process could not give up all rights that it does not need", "error", unconfined)
	}
	var uncached error
	o.metadataDir, uncached = o.diskCache.ready(a.getenv, os.Geteuid())
	if uncached != nil {
		log.Warn("metadata is kept in memory alone", "error", uncached)
	}
	o.cacheEncrypted = o.diskCache.encrypted
	serveWhileDecoding()
	v := &serving{app: a, o: o, host: host, log: log}
	open := func(ctx context.Context, t locate.Target) (*store.Lookup, error) {
		return a.openTarget(ctx, host, t, o.openOptions, s, log)
	}
	v.stores = api.NewStores(host, o.named, open, log)
	defer func() { err = errors.Join(err, v.stores.Close()) }()
	if v.readings, err = served.LeaveReadings(host, log); err != nil {
		return err
	}
	defer v.readings.Close()
	shown, err := v.showMetrics(ctx)
	if err != nil {
		return err
	}
	defer shown.Close()
	if err := v.begin(ctx); err != nil {
		return err
	}
	defer a.moment.allow(0)() // signals end the server, which may take as long as it needs
	toManager(daemon.SdNotifyReady, log)
	return v.wait(ctx)
}

// begin listens and begins to answer.
func (v *serving) begin(ctx context.Context) error {
	tokens, err := v.tokens()
	if err != nil {
		return err
	}
	v.gate = access.NewGate(tokens)
	listeners, err := v.listeners(ctx)
	if err != nil {
		return err
	}
	close := func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	cert, err := v.certificate(listeners)
	if err != nil {
		close()
		return err
	}
	v.api = api.New(api.Options{
		Host: v.host, Gate: v.gate, Stores: v.stores, Changes: watch.NewSource(v.stores.Look), Readings: v.readings, Failed: v.failed(),
		Version: version(), Log: v.log, Downloads: v.o.downloads,
	})
	v.server, err = web.Serve(listeners, web.Options{Handler: v.handler(), TLS: cert, Tokens: tokens != nil, Mark: access.OverSocket, Log: v.log})
	if err != nil {
		close()
		return err
	}
	v.announce(listeners, cert)
	return os.Chdir("/")
}

// tokens opens the token file, nil if there is none.
func (v *serving) tokens() (*token.File, error) {
	path := tokenFile(v.o.tokenFile, v.host)
	f, err := token.Open(path)
	if errors.Is(err, fs.ErrNotExist) && v.o.tokenFile == "" {
		return nil, nil
	}
	return f, err
}

// tokenFile returns the file with the tokens.
func tokenFile(given string, host hosts.Host) string {
	if given != "" {
		return given
	}
	return filepath.Join(host.OwnConfigDir(), "tokens.json")
}

// listeners listens where the command line says.
func (v *serving) listeners(ctx context.Context) ([]*web.Listener, error) {
	addresses := v.o.listen
	if len(addresses) == 0 {
		given, err := web.FromSystemd()
		if len(given) > 0 || err != nil {
			return given, err
		}
		addresses = []string{defaultListen}
	}
	var out []*web.Listener
	for _, address := range addresses {
		l, err := web.Listen(ctx, address)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			err = fmt.Errorf("--listen: %w", err)
			if errors.Is(err, web.ErrAddress) {
				err = usage.New(err)
			}
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// certificate returns the certificate for TLS, nil if it is not spoken.
func (v *serving) certificate(listeners []*web.Listener) (*tls.Certificate, error) {
	if v.o.noTLS {
		return nil, nil
	}
	if v.o.cert != "" {
		c, err := certificate.Load(v.o.cert, v.o.key)
		return &c, err
	}
	var names []string
	for _, l := range listeners {
		if at, ok := l.Addr().(*net.TCPAddr); ok && !at.IP.IsUnspecified() {
			names = append(names, at.IP.String())
		}
	}
	if len(names) == 0 && len(listeners) > 0 && listeners[0].IsUnix() {
		return nil, nil // nobody would see it
	}
	c, _, err := certificate.Own(v.host.OwnConfigDir(), names)
	return &c, err
}

// handler joins the API and the page.
func (v *serving) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", v.api.Handler())
	if v.o.ui {
		p := page.Handler()
		shown := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Security-Policy", page.Policy)
			p.ServeHTTP(w, r)
		})
		mux.Handle("/{$}", shown)
		mux.Handle("/page/", shown)
	}
	if v.numbers != nil {
		return v.numbers.Requests(mux)
	}
	return mux
}

// announce tells where requests are answered, and how one is let in.
func (v *serving) announce(listeners []*web.Listener, cert *tls.Certificate) {
	scheme := "http"
	if cert != nil {
		scheme = "https"
	}
	for _, l := range listeners {
		if l.IsUnix() {
			fmt.Fprintf(v.app.stderr, "pbsfs: listening on unix:%s\n", l.Addr())
			continue
		}
		url := fmt.Sprintf("%s://%s/", scheme, l.Addr())
		fmt.Fprintf(v.app.stderr, "pbsfs: listening on %s\n", url)
		if once := v.gate.Once(); once != "" && !inJournal() {
			fmt.Fprintf(v.app.stderr, "pbsfs: until this process ends, this reads, and changes nothing: %s#token=%s\n", url, once)
		}
	}
	if cert != nil {
		fmt.Fprintf(v.app.stderr, "pbsfs: fingerprint (sha256): %s\n", certificate.Fingerprint(*cert))
	}
}

// inJournal reports whether what is printed stays in the journal, where no secret
// belongs.
func inJournal() bool {
	in, err := journal.StderrIsJournalStream()
	return in || err != nil
}

// wait serves until a signal comes, and then ends.
func (v *serving) wait(ctx context.Context) error {
	stop := stopSignals()
	if ctx.Err() == nil { // a signal that came earlier has ended ctx
		select {
		case <-stop:
		case <-ctx.Done():
		case err := <-v.server.Failed():
			v.api.End()
			return errors.Join(err, v.server.Stop(context.Background()))
		}
	}
	// The signal ends ctx and arrives in stop, in any order. Only what comes from now on is
	// a second one.
	again := stopSignals()
	toManager(daemon.SdNotifyStopping, v.log)
	v.log.Info("ending", "open", len(v.readings.Open()))
	v.api.End()
	ending, cancel := context.WithTimeout(context.Background(), v.o.stopTimeout)
	defer cancel()
	go func() { // a second signal ends the wait
		select {
		case <-again:
			cancel()
		case <-ending.Done():
		}
	}()
	open := make(chan []served.Reading, 1)
	defer context.AfterFunc(ending, func() { open <- v.readings.Open() })()
	if err := v.server.Stop(ending); err == nil {
		return nil
	}
	return cutDownloads(<-open, v.log)
}

// cutDownloads says which downloads were cut off.
func cutDownloads(cut []served.Reading, log *slog.Logger) error {
	var text strings.Builder
	fmt.Fprintf(&text, "ended while %d downloads were under way; cut off:", len(cut))
	for _, r := range cut {
		log.Warn("cut off", "datastore", r.Datastore, "path", r.Path, "by", r.By)
		fmt.Fprintf(&text, "\n  %s /%s, by %s", r.Datastore, r.Path, r.By)
	}
	return &exitError{code: exitFailed, text: text.String()}
}

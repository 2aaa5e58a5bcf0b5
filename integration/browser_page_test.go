package integration

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// startBrowser starts a browser without a window, until the test ends.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 860),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 860)); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return ctx
}

// tab is what a test sees in the browser. Its methods fail the test if something is not
// possible in time.
type tab struct {
	t       *testing.T
	browser context.Context
	site    *site
}

// step is something that is done in the browser.
type step = chromedp.Action[chromedp.Void]

func (p *tab) run(what string, steps ...step) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.browser, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v; the page at %s shows:\n%s", what, err, p.peek("location.href"), p.peek("document.body.innerText"))
	}
}

// peek is what a test that fails tells of the page.
func (p *tab) peek(expression string) string {
	ctx, cancel := context.WithTimeout(p.browser, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		return err.Error()
	}
	return text
}

// text returns the value of an expression.
func (p *tab) text(expression string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.browser, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return text
}

// do evaluates something that may lead elsewhere.
func (p *tab) do(expression string) {
	p.t.Helper()
	p.run(expression, chromedp.Evaluate[chromedp.Void](expression+"; undefined"))
}

// seen is known to conditions: it returns the text of what a selector finds, if it can
// be seen.
const seen = `const seen = (selector) => {
	const found = document.querySelector(selector);
	return found && found.checkVisibility() ? found.innerText : '';
}; `

// until waits for a condition.
func (p *tab) until(what, condition string) {
	p.t.Helper()
	p.run("waiting for "+what, chromedp.PollFunction[chromedp.Void]("() => { "+seen+" return "+condition+" }", chromedp.WithPollingInterval(20*time.Millisecond)))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.run("clicking on "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// clickText clicks on that element of several which has that text.
func (p *tab) clickText(selector, text string) {
	p.t.Helper()
	p.run("clicking on "+text, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(
		`[...document.querySelectorAll(%q)].find((e) => e.textContent === %q).click()`, selector, text)))
}

func (p *tab) typeInto(selector, text string) {
	p.t.Helper()
	p.run("typing into "+selector, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// keys presses keys, wherever the focus is.
func (p *tab) keys(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.run("pressing keys", chromedp.KeyEvent(k))
	}
}

// keyUntil presses a key until a condition holds.
func (p *tab) keyUntil(key, condition string) {
	p.t.Helper()
	for range 60 {
		if p.text("String("+condition+")") == "true" {
			return
		}
		p.keys(key)
	}
	p.t.Fatalf("after 60 times %q: not so: %s; the focus is on %s", key, condition, p.peek("document.activeElement.outerHTML"))
}

// filter leaves only some rows of a listing.
func (p *tab) filter(text string) {
	p.t.Helper()
	p.run("filtering", chromedp.WaitVisible(chromedp.CSS(".rows .row")), chromedp.Evaluate[chromedp.Void](fmt.Sprintf(
		`{ const f = document.getElementById('filter'); f.value = %q; f.dispatchEvent(new Event('input')); }`, text)))
}

func (p *tab) reload() {
	p.t.Helper()
	p.run("loading the page again", chromedp.Reload())
}

// logOut loads the page as somebody who was never there.
func (p *tab) logOut() {
	p.t.Helper()
	p.run("forgetting who it was", chromedp.Navigate("about:blank"), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}), chromedp.Navigate(p.site.url))
	p.until("the login", `seen('#login') !== ''`)
}

// logIn loads the page with a token of a role in the address.
func (p *tab) logIn(role string) {
	p.t.Helper()
	p.logOut()
	p.run("the address with a token", chromedp.Navigate("about:blank"), chromedp.Navigate(p.site.url+"#token="+p.site.tokens[role]))
	p.until("the datastores", `seen('#overview').includes('tank')`)
}

// visit goes to a place in the snapshot.
func (p *tab) visit(path ...string) {
	p.t.Helper()
	at := fmt.Sprintf("#/store/%s/host/laptop/%d", tank, p.site.time.Unix())
	p.do(fmt.Sprintf("location.hash = %q", strings.Join(append([]string{at}, path...), "/")))
	p.until("the place", fmt.Sprintf(`seen('.rows .row') !== '' && location.hash.endsWith(%q) && seen('#count') !== 'Loading…'`, strings.Join(path, "/")))
}

// downloadTo returns a directory where downloads go.
func (p *tab) downloadTo() string {
	p.t.Helper()
	dir := p.t.TempDir()
	p.run("allowing downloads", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: "allow", DownloadPath: filepath.Clean(dir)})
		return err
	}))
	return dir
}

// scheme asks for a light or a dark page.
func (p *tab) scheme(name string) {
	p.t.Helper()
	p.run("the scheme "+name, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

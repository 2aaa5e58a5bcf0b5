package integration

import (
	"context"
	"fmt"
	"os"

	"github.com/chromedp/chromedp"
)

// axe is where make setup-peers puts the checker.
const axe = "../bin/peers/node_modules/axe-core/axe.min.js"

// Nothing serious is in the way of people who see, hear or move in another way.
func accessibility(p *tab, s *site) {
	if _, err := os.Stat(axe); err != nil {
		p.t.Skipf("needs axe-core: make setup-peers: %v", err)
	}
	a := startActor(p.t, "hold", s.mount.path(s.snapshot, "root.pxar", "notes.txt"))
	defer a.end()
	p.logOut()
	p.typeInto("#token", "wrong\r")
	p.until("the refusal", `seen('#login-error') !== ''`)
	p.check("login")

	p.logIn("admin")
	p.until("an open file", `seen('.handles') !== ''`)
	p.check("datastores")
	p.click(`[aria-label="Maintenance of tank"]`)
	p.click("#set-mode")
	p.until("the refusal", `seen('#result.error') !== ''`)
	p.check("maintenance")
	p.click("#close-maintenance")

	for _, place := range []string{"", "/host/laptop"} {
		p.do(fmt.Sprintf("location.hash = '#/store/%s%s'", tank, place))
		p.until("rows", fmt.Sprintf(`location.hash.endsWith(%q) && seen('.rows .row') !== '' && seen('#count') !== 'Loading…'`, tank+place))
		p.check("contents of " + tank + place)
	}
	for _, path := range [][]string{{}, {"root.pxar.didx"}, {"root.pxar.didx", "many"}} {
		p.visit(path...)
		p.check(fmt.Sprint("contents of ", path))
	}
	p.visit("root.pxar.didx")
	p.filter("notes.txt")
	p.click(`[aria-label="View notes.txt"]`)
	p.until("the text", `seen('#viewer pre') !== ''`)
	p.check("a file")
	p.click("#close-viewer")
}

// check fails the test if axe finds something serious in what is shown. In the dark only
// the colours are different.
func (p *tab) check(view string) {
	p.t.Helper()
	script, err := os.ReadFile(axe)
	must(p.t, err)
	p.run("loading axe", chromedp.Evaluate[chromedp.Void](string(script)+"; undefined"))
	for scheme, rules := range map[string]string{"light": "{}", "dark": "{ runOnly: ['color-contrast'] }"} {
		p.scheme(scheme)
		ctx, cancel := context.WithTimeout(p.browser, patience)
		defer cancel()
		found, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`axe.run(%s).then(({ violations, passes }) => (passes.length > 0 ? '' : 'it looks at nothing') +
			violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
			.map(({ id, help, nodes }) => [id, help, ...nodes.slice(0, 3).map((n) => n.html + ' ' + n.failureSummary)].join('\n  ')).join('\n'))`, rules),
			chromedp.EvalAwaitPromise))
		if err != nil {
			p.t.Fatalf("axe, %s, %s: %v", scheme, view, err)
		}
		if found != "" {
			p.t.Errorf("%s, %s: %s", scheme, view, found)
		}
	}
}

package integration

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// The page, as somebody sees it who uses it with a browser.
func TestBrowser(t *testing.T) {
	b := startBrowser(t)
	s := newSite(t)
	for _, c := range []struct {
		name string
		run  func(*tab, *site)
	}{
		{"a wrong token", wrongToken},
		{"the token in the address", tokenInAddress},
		{"by keys alone", byKeysAlone},
		{"downloads", downloads},
		{"places", places},
		{"what is shown of files", shownFiles},
		{"hostile names", hostileNames},
		{"a long listing", longListing},
		{"the role audit", auditRole},
		{"who has what open", whoHasWhatOpen},
		{"maintenance", maintenance},
		{"accessibility", accessibility},
		{"silence", silence},
		{"a lost connection", lostConnection},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(&tab{t: t, browser: b, site: s}, s) })
	}
}

func wrongToken(p *tab, s *site) {
	p.logOut()
	p.typeInto("#token", "root@pam!me:WRONG"+kb.Enter)
	p.until("it says so", `seen('#login-error').includes('does not know this token')`)
	if at := p.text("document.activeElement.id"); at != "token" {
		p.t.Errorf("the focus is on %q, want the token's field", at)
	}
}

// A token in the address is used and does not stay there.
func tokenInAddress(p *tab, s *site) {
	p.logIn("admin")
	if at := p.text("location.href"); at != s.url && at != s.url+"#/" {
		p.t.Errorf("the address is %q, want %q", at, s.url)
	}
	p.click("#log-out")
	p.until("the login", `seen('#login') !== ''`)
}

func byKeysAlone(p *tab, s *site) {
	p.logOut()
	p.until("the focus on the token", `document.activeElement.id === 'token'`)
	p.keys(s.tokens["read"], kb.Enter)
	p.until("datastores", `seen('#overview').includes('tank')`)
	p.keyUntil(kb.Tab, `document.activeElement.getAttribute('aria-label') === 'Browse tank'`)
	p.keys(kb.Enter)
	for _, row := range []string{"host/laptop", "Z", "root.pxar", "notes.txt"} {
		p.until("the focus on a row", `document.activeElement.getAttribute('role') === 'row' && document.activeElement.isConnected`)
		p.keyUntil(kb.ArrowDown, fmt.Sprintf(`document.activeElement.querySelector('.name').textContent.endsWith(%q)`, row))
		p.keys(kb.Enter)
	}
	p.until("the file's content", fmt.Sprintf(`seen('#viewer').includes(%q)`, notes))
	p.keys(kb.Escape)
	p.until("the focus where it was", `!document.querySelector('#viewer').open && document.activeElement.textContent.includes('notes.txt')`)
	p.keys(kb.Backspace)
	p.until("the archives", `seen('#place').endsWith('Z') && document.activeElement.textContent.includes('root.pxar')`)
	p.keyUntil(kb.Tab, `document.activeElement.textContent === 'zip'`) // the actions of a row come after it
}

func downloads(p *tab, s *site) {
	dir := p.downloadTo()
	p.logIn("read")
	p.visit("root.pxar.didx", "deep")
	p.filter("data.bin")
	p.click(`[aria-label="Download: data.bin"]`)
	want := s.files["deep/data.bin"]
	eventually(p.t, "the file, byte for byte", func() error {
		got, err := os.ReadFile(filepath.Join(dir, "data.bin"))
		if err == nil && !bytes.Equal(got, want) {
			return unlike("got %d bytes, %x, want %d, %x", len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
		}
		return err
	})
	p.click("#place-actions a")
	eventually(p.t, "the directory as zip", func() error {
		found, err := filepath.Glob(filepath.Join(dir, "*.zip"))
		if err != nil || len(found) != 1 {
			return unlike("there is %q", found)
		}
		return zipHas(found[0], "data.bin", want)
	})
}

// zipHas is nil if a zip has a file of that name and content.
func zipHas(archive, name string, want []byte) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if filepath.Base(f.Name) != name {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			return unlike("%s: got %d bytes, %v", name, len(got), err)
		}
		return nil
	}
	return unlike("no %s in it", name)
}

// The address keeps the place: it can be loaded again, and left and entered.
func places(p *tab, s *site) {
	p.logIn("read")
	p.visit("root.pxar.didx", "deep")
	p.reload()
	p.until("the same place", `seen('#place') === 'deep' && seen('.rows').includes('data.bin')`)
	p.do("history.back()")
	p.until("where it was before", `seen('#overview').includes('tank')`)
	p.do("history.forward()")
	p.until("the place again", `seen('#place') === 'deep' && seen('.rows').includes('data.bin')`)
	p.clickText("#crumbs a", "root.pxar")
	p.until("the directory above, at the row it came from", `seen('#place') === 'root.pxar' && document.activeElement.textContent.includes('deep')`)
	p.clickText("#crumbs a", "Datastores")
	p.until("the datastores", `seen('#overview').includes('tank')`)
}

func shownFiles(p *tab, s *site) {
	p.logIn("read")
	p.visit("root.pxar.didx")
	for _, c := range []struct{ file, until string }{
		{"picture.png", `document.querySelector('#viewer img')?.naturalWidth === 3 && seen('#viewer-note').startsWith('3 × 2')`},
		{"lies.png", `seen('#viewer pre').includes('<script>')`}, // whatever its name says
		{"binary", `seen('#viewer-note').startsWith('This is not text')`},
		{"empty", `seen('#viewer-note') === 'The file is empty.'`},
		{"long.log", `seen('#viewer-note').startsWith('Only the first 1.00 MiB of 1.50 MiB')`},
	} {
		p.filter(c.file)
		p.click(fmt.Sprintf(`[aria-label="View %s"]`, c.file))
		p.until(c.file, c.until)
		p.click("#close-viewer")
		p.until("the end of it", `!document.querySelector('#viewer').open`)
	}
}

// A name is text, and shows what is in it.
func hostileNames(p *tab, s *site) {
	p.logIn("read")
	p.visit("root.pxar.didx", "hostile")
	p.until("names as they are", `seen('.rows').includes('‹U+202E›gpj.exe') && seen('.rows').includes('<img src=x onerror=alert(1)>') && seen('.rows').includes('a‹U+000A›b')`)
	if n := p.text(`String(document.querySelectorAll('.rows img').length)`); n != "0" {
		p.t.Errorf("a name has become %s pictures", n)
	}
	p.filter("not UTF-8")
	p.click(`.rows a[href*="%FF"]`)
	p.until("a name that is no text leading somewhere", `seen('.rows').includes('inside')`)
}

func longListing(p *tab, s *site) {
	p.logIn("read")
	p.visit("root.pxar.didx", "many")
	p.until("all entries", fmt.Sprintf(`seen('#count') === '%d,000 entries' && document.querySelector('.grid').getAttribute('aria-rowcount') === '%d001'`, longList/1000, longList/1000))
	p.keys(kb.End)
	p.until("the last row", fmt.Sprintf(`document.activeElement.getAttribute('aria-rowindex') === '%d' && document.activeElement.textContent.startsWith('file%d')`, longList+1, longList))
	p.keys(kb.PageUp, kb.ArrowUp)
	p.until("rows above it", fmt.Sprintf(`Number(document.activeElement.getAttribute('aria-rowindex')) < %d`, longList-5))
	if p.text(`String(document.querySelectorAll('.rows .row').length < 100)`) != "true" {
		p.t.Error("all rows are elements")
	}
	p.filter("file499")
	p.until("what passes the filter, in natural order", fmt.Sprintf(`seen('#count').startsWith('11 of ') && seen('.rows .row').startsWith('file%d')`, 499))
	p.clickText(".header button", "Name")
	p.until("the other order", `document.querySelector('.header .name').getAttribute('aria-sort') === 'descending' && seen('.rows .row').startsWith('file4999')`)
}

func auditRole(p *tab, s *site) {
	p.logIn("audit")
	p.until("no maintenance", `seen('#overview').includes('tank') && seen('[aria-label="Maintenance of tank"]') === ''`)
	p.visit()
	p.until("archives without content, and why", `seen('#browse-notes').includes('role audit') && seen('.rows').includes('root.pxar') && document.querySelectorAll('.rows a, .rows button').length === 0`)
}

// A file that is held open in a mount appears on the page by itself, and goes.
func whoHasWhatOpen(p *tab, s *site) {
	p.logIn("read")
	p.until("nothing open", `seen('#overview').includes('Nothing is open.')`)
	a := startActor(p.t, "hold", s.mount.path(s.snapshot, "root.pxar", "notes.txt"))
	p.until("the file and who has it", fmt.Sprintf(`seen('.handles').includes('root.pxar/notes.txt') && seen('.handles').includes('%d')`, a.pid))
	const age = `(document.querySelector('.handles time')?.textContent ?? '')` // the list is drawn anew meanwhile
	p.until("its age", age+` !== ''`)
	first := p.text(age)
	p.until("its age counting up", fmt.Sprintf(`![%q, ''].includes(%s)`, first, age))
	p.until("the mount and the operations", fmt.Sprintf(`seen('.mounts').includes(%q) && seen('.processes').includes('%d')`, s.mount.dir, s.mount.process.pid))
	a.end()
	p.until("nothing open any more", `seen('#overview').includes('Nothing is open.')`)
}

func maintenance(p *tab, s *site) {
	p.logIn("admin")
	a := startActor(p.t, "hold", s.mount.path(s.snapshot, "root.pxar", "notes.txt"))
	_, name, _ := strings.Cut(a.who(), fmt.Sprintf("%d ", a.pid))
	holder := fmt.Sprintf(`[%q, '%d', 'root.pxar/notes.txt'].every((text) => seen('#result-holders').includes(text))`, name[:min(len(name), 10)], a.pid)
	p.click(`[aria-label="Maintenance of tank"]`)
	p.click("#set-mode")
	p.until("a refusal that names the holder", `seen('#result.error').includes('stays as it is') && `+holder)

	p.click("#drain")
	p.typeInto("#message", "new disk")
	p.click("#set-mode")
	p.until("what it waits for", `seen('#maintenance-mode').includes('offline') && seen('#result.warning').includes('waits for') && `+holder)
	p.click("#give-up")
	p.until("no mode", `seen('#maintenance-mode').includes('available') && seen('#give-up') === ''`)

	p.click("#set-mode")
	p.until("the drain", `seen('#result.warning').includes('waits for')`)
	a.end()
	p.until("its end", `seen('#result.done').includes('Nothing is in the way any more')`)
	if st := s.host.status(); st.Mode == nil || *st.Mode != "offline" || st.Message != "new disk" {
		p.t.Errorf("got the status %+v, want offline and the message", st)
	}
	p.click("#clear-mode")
	p.until("the mode cleared", `seen('#result.done').includes('cleared') && seen('#maintenance-mode').includes('available')`)
	p.click("#close-maintenance")
}

// A server that says nothing is as good as none, and when it goes on, so does the page.
func silence(p *tab, s *site) {
	p.logIn("read")
	must(p.t, s.process.Signal(syscall.SIGSTOP))
	defer func() { _ = s.process.Signal(syscall.SIGCONT) }()
	p.until("that it says so", `seen('#connection').includes('is lost')`)
	must(p.t, s.process.Signal(syscall.SIGCONT))
	p.until("that it mends", `seen('#connection') === '' && seen('#overview').includes('tank')`)
	a := startActor(p.t, "hold", s.mount.path(s.snapshot, "root.pxar", "notes.txt"))
	p.until("news", `seen('.handles').includes('root.pxar/notes.txt')`)
	a.end()
}

// A server that ends takes its sessions with it. The page says that the connection is
// lost, and when there is a server again, it asks who one is.
func lostConnection(p *tab, s *site) {
	p.logIn("read")
	p.visit("root.pxar.didx", "deep")
	s.stop()
	p.until("that it says so", `seen('#connection').includes('is lost')`)
	s.start()
	p.until("the login", `seen('#login').includes('session has ended') && seen('#connection') === ''`)
	p.typeInto("#token", s.tokens["read"]+kb.Enter)
	p.until("the same place", `seen('#place') === 'deep' && seen('.rows').includes('data.bin')`)
}

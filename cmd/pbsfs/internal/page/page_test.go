package page

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// get asks the handler for something.
func get(t *testing.T, method, at string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, at, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	for at, contentType := range map[string]string{
		"/":               "text/html; charset=utf-8",
		"/page/main.js":   "text/javascript; charset=utf-8",
		"/page/style.css": "text/css; charset=utf-8",
		"/page/icon.svg":  "image/svg+xml",
	} {
		first := get(t, "GET", at, nil)
		h := first.Header()
		if first.Code != http.StatusOK || h.Get("Content-Type") != contentType || h.Get("Cache-Control") != "no-cache" || h.Get("Content-Security-Policy") != Policy {
			t.Errorf("GET %s: got %d and %v", at, first.Code, h)
		}
		tag := h.Get("ETag")
		if !regexp.MustCompile(`^"[0-9a-f]{64}"$`).MatchString(tag) {
			t.Errorf("GET %s: got the ETag %q, want a strong one", at, tag)
		}
		if again := get(t, "GET", at, http.Header{"If-None-Match": {tag}}); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("GET %s again: got %d with %d bytes, want 304", at, again.Code, again.Body.Len())
		}
		if head := get(t, "HEAD", at, nil); head.Code != http.StatusOK || head.Body.Len() > 0 || head.Header().Get("ETag") != tag {
			t.Errorf("HEAD %s: got %d with %d bytes", at, head.Code, head.Body.Len())
		}
		if post := get(t, "POST", at, nil); post.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: got %d", at, post.Code)
		}
	}
	for _, at := range []string{"/page/", "/page", "/page/index.html", "/page/none.js", "/index.html", "/page/../page.go", "/page/main.js/"} {
		if w := get(t, "GET", at, nil); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: got %d, want 404", at, w.Code)
		}
	}
}

// sources returns the assets with that extension, by the address they are served at.
func sources(ext string) map[string]string {
	out := make(map[string]string)
	for at, a := range load() {
		if path.Ext(at) == ext || ext == ".html" && at == "/" {
			out[at] = string(a.content)
		}
	}
	return out
}

// What the page asks for is there, and everything that is there is asked for.
func TestEveryAssetIsUsed(t *testing.T) {
	all := load()
	used := map[string]bool{"/": true}
	use := func(from, to string) {
		if _, ok := all[to]; !ok {
			t.Errorf("%s asks for %s, which there is not", from, to)
		}
		used[to] = true
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#]+)(?:#[^"]*)?"`).FindAllStringSubmatch(string(all["/"].content), -1) {
		use("index.html", m[1])
	}
	imports := regexp.MustCompile(`(?:from|import)\s*\(?\s*'([^']+)'`)
	for at, text := range sources(".js") {
		for _, m := range imports.FindAllStringSubmatch(text, -1) {
			use(at, path.Join(path.Dir(at), m[1]))
		}
	}
	for at := range all {
		if !used[at] {
			t.Errorf("nothing asks for %s", at)
		}
	}
}

// forbidden is what no asset of a kind may contain.
var forbidden = []struct {
	ext, what string
	pattern   *regexp.Regexp
}{
	{".html", "an inline script", regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]`)},
	{".html", "a script without an address", regexp.MustCompile(`(?i)<script(?:\s+type="[^"]*")?\s*>`)},
	{".html", "an inline style", regexp.MustCompile(`(?i)<style|\sstyle\s*=`)},
	{".html", "an inline handler", regexp.MustCompile(`(?i)\son[a-z]+\s*=`)},
	{".html", "a base or a redirection", regexp.MustCompile(`(?i)<base|http-equiv`)},
	{".js", "a parser of HTML", regexp.MustCompile(`\b(?:innerHTML|outerHTML|insertAdjacentHTML|setHTML\w*|createContextualFragment|DOMParser|srcdoc)\b|document\.write`)},
	{".js", "text that becomes a script", regexp.MustCompile(`\beval\b|\bnew Function\b|\bsetTimeout\(\s*['"` + "`" + `]|javascript:`)},
	{".js", "a style attribute", regexp.MustCompile(`cssText|setAttribute\(\s*'style'`)},
	{".js", "storage that outlives the page", regexp.MustCompile(`\b(?:localStorage|sessionStorage|indexedDB|serviceWorker)\b|document\.cookie`)},
	{".css", "a style from elsewhere", regexp.MustCompile(`(?i)@import|url\(`)},
}

func TestNothingInlineAndNothingForeign(t *testing.T) {
	for _, f := range forbidden {
		all := sources(f.ext)
		if len(all) == 0 {
			t.Errorf("there is no %s: the rule is about nothing", f.ext)
		}
		for at, text := range all {
			if found := f.pattern.FindString(text); found != "" {
				t.Errorf("%s has %s: %q", at, f.what, found)
			}
		}
	}
	// The name of SVG is no address.
	elsewhere := regexp.MustCompile(`(?i)\b(?:https?|wss?):|["'(]//`)
	for at, a := range load() {
		text := strings.Replace(string(a.content), `xmlns="http://www.w3.org/2000/svg"`, "", 1)
		if found := elsewhere.FindString(text); found != "" {
			t.Errorf("%s has the address of something elsewhere: %q", at, found)
		}
	}
}

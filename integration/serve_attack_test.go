package integration

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// treeSum returns a checksum of all files below a directory, of their names and modes.
func treeSum(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %v %d %v\n", path, info.Mode(), info.Size(), info.ModTime())
		if !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(sum, f)
		return err
	}))
	return hex.EncodeToString(sum.Sum(nil))
}

// unharmed returns a check that neither the configuration nor a datastore has changed
// since.
func unharmed(t *testing.T, h *host, store string) func(t *testing.T) {
	t.Helper()
	config, sum := h.config(), treeSum(t, store)
	tokens, err := os.ReadFile(filepath.Join(h.dir, "config", "tokens.json"))
	must(t, err)
	return func(t *testing.T) {
		t.Helper()
		if now := h.config(); now != config {
			t.Errorf("datastore.cfg has changed to:\n%s", now)
		}
		if now, err := os.ReadFile(filepath.Join(h.dir, "config", "tokens.json")); err != nil || !bytes.Equal(now, tokens) {
			t.Errorf("the token file has changed: %v", err)
		}
		if treeSum(t, store) != sum {
			t.Error("the datastore has changed")
		}
	}
}

// attacked is the server that attacks are aimed at, and the check that none was of use.
func attacked(t *testing.T) (*apiServer, func(t *testing.T)) {
	t.Helper()
	store := copyFixture(t, "ds-basic")
	s := servesTank(t, store, "--no-tls")
	check := unharmed(t, s.host, store)
	t.Cleanup(func() { check(t) })
	return s, check
}

// Pages of others that a browser with a session has open, or that somebody made it open.
func TestServeRefusesPagesOfOthers(t *testing.T) {
	s, check := attacked(t)
	page := s.login("admin")
	cookie, proof := page.header.Get("Cookie"), page.header.Get("CSRFPreventionToken")
	other := s.login("admin").header.Get("CSRFPreventionToken")
	const jsonMedia, formMedia = "application/json", "application/x-www-form-urlencoded"
	for _, c := range []struct {
		what    string
		headers []string
		media   string
		body    string
	}{
		{"no proof", nil, jsonMedia, `{"mode":"offline"}`},
		{"an empty proof", []string{"CSRFPreventionToken", ""}, jsonMedia, `{"mode":"offline"}`},
		{"the proof of another session", []string{"CSRFPreventionToken", other}, jsonMedia, `{"mode":"offline"}`},
		{"a proof that is too long", []string{"CSRFPreventionToken", proof + "x"}, jsonMedia, `{"mode":"offline"}`},
		{"a plain form", nil, formMedia, "mode=offline"},
		{"a plain form as text", nil, "text/plain", `{"mode":"offline","x":"="}`},
		{"a form with files", nil, "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"mode\"\r\n\r\noffline\r\n--x--\r\n"},
		{"another origin, with the proof", []string{"CSRFPreventionToken", proof, "Origin", "https://evil.example"}, jsonMedia, `{"mode":"offline"}`},
		{"another port of this host, with the proof", []string{"CSRFPreventionToken", proof, "Origin", "http://127.0.0.1:1"}, jsonMedia, `{"mode":"offline"}`},
		{"no origin, with the proof", []string{"CSRFPreventionToken", proof, "Origin", "null"}, jsonMedia, `{"mode":"offline"}`},
		{"cross-site, with the proof", []string{"CSRFPreventionToken", proof, "Sec-Fetch-Site", "cross-site"}, jsonMedia, `{"mode":"offline"}`},
		{"same-site, with the proof", []string{"CSRFPreventionToken", proof, "Sec-Fetch-Site", "same-site"}, jsonMedia, `{"mode":"offline"}`},
	} {
		t.Run(c.what, func(t *testing.T) {
			who := s.with(append([]string{"Cookie", cookie}, c.headers...)...)
			for _, path := range []string{"pbsfs/maintenance/" + tank + "/set", "pbsfs/maintenance/" + tank + "/clear"} {
				who.send("POST", apiBase+path, c.media, strings.NewReader(c.body)).refused(http.StatusForbidden)
			}
			who.send("PUT", apiBase+"config/datastore/"+tank, c.media, strings.NewReader(c.body)).refused(http.StatusForbidden)
			who.send("DELETE", apiBase+"pbsfs/session", c.media, nil).refused(http.StatusForbidden)
			check(t)
		})
	}
	// A page of others cannot log somebody in, either.
	login := `{"token":"` + s.tokens["admin"] + `"}`
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		a := s.with(header...).send("POST", apiBase+"pbsfs/session", jsonMedia, strings.NewReader(login))
		a.refused(http.StatusForbidden)
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%q: a cookie was set", header)
		}
	}
	// No answer lets another origin read it, or asks a browser to try again with more.
	a := s.with("Origin", "https://evil.example", "Access-Control-Request-Method", "PUT").send("OPTIONS", apiBase+"config/datastore/"+tank, "", nil)
	a.want(http.StatusMethodNotAllowed)
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("an answer has the header %s", name)
		}
	}
	// And our own page may.
	page.header.Set("Sec-Fetch-Site", "same-origin")
	page.header.Set("Origin", s.url)
	page.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).want(http.StatusOK)
}

// The cookie is for this server's pages alone, and every answer keeps a browser from
// doing more with it than was meant.
func TestServeTellsBrowsersWhatIsAllowed(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	a := s.with().change("POST", "pbsfs/session", data{"token": s.tokens["admin"]})
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 1 || !strings.HasPrefix(cookies[0].Name, "__Host-") || !cookies[0].Secure || !cookies[0].HttpOnly ||
		cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != "/" || cookies[0].Domain != "" {
		t.Errorf("the cookie is %+v, want one for this host, out of reach of scripts and of other pages", cookies)
	}
	if strings.Contains(string(a.body), cookies[0].Value) {
		t.Error("the page sees what is in its cookie")
	}
	html := s.as("read").get("admin/datastore/"+tank+"/download-decoded", snapshotParams(t, alpha).and(params{"file-name": "client.log.blob"}))
	for _, a := range []*answer{a, html.want(http.StatusOK), s.with().get("version", nil), s.with().send("GET", "/nothing", "", nil)} {
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q, want %q", a.what, name, got, want)
			}
		}
	}
	if got := html.header.Get("Content-Disposition"); got != "attachment; filename=client.log" {
		t.Errorf("a file from a backup is shown as %q, want an attachment", got)
	}
	if got := html.header.Get("Content-Security-Policy"); !strings.Contains(got, "sandbox") {
		t.Errorf("a file from a backup may do %q, want a sandbox", got)
	}
}

// invalid are texts that lead elsewhere, or nowhere, in whatever parameter they stand.
var invalid = map[string]string{
	"parent":                "..",
	"parents":               "../../../etc/passwd",
	"parent below":          "a/../../b",
	"self":                  ".",
	"absolute":              "/etc/passwd",
	"NUL":                   "a\x00b",
	"encoded twice":         "%2e%2e%2f",
	"backslashes":           `..\..\etc`,
	"invalid UTF-8":         "\xff\xfe",
	"line break":            "a\nmaintenance-mode offline",
	"very long":             strings.Repeat("a", 8192),
	"long path":             strings.Repeat("a/", 2000) + "a",
	"hidden":                ".chunks",
	"namespace directory":   "ns/prod",
	"space":                 " ",
	"shell":                 "$(reboot)`reboot`",
	"right-to-left":         "\u202egpj.exe",
	"full width full stops": "\uff0e\uff0e/",
}

// Names that are no names are refused, in every parameter; and whatever text comes, the
// answer is no failure of the server, and what lies beside the datastore is not read.
func TestServeRefusesNamesThatLeadElsewhere(t *testing.T) {
	s, check := attacked(t)
	admin := s.as("admin")
	// What lies beside the datastore must not come to light.
	secret := "beside-" + s.tokens["audit"]
	must(t, os.WriteFile(filepath.Join(s.host.dir, "secret"), []byte(secret), 0o644))
	snap := snapshotParams(t, alpha)
	at := "admin/datastore/" + tank + "/"
	never := func(t *testing.T, a *answer) {
		t.Helper()
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: got status %d, want that the request is wrong: %.300s", a.what, a.status, a.body)
		}
		if strings.Contains(string(a.body), secret) || strings.Contains(string(a.body), "root:") || strings.Contains(string(a.body), "pbsfs-test-") {
			t.Errorf("%s: says more than it should: %.300q", a.what, a.body)
		}
		if bytes.ContainsAny(a.body, "\x00\n\r\u202e") || len(a.body) > 20_000 {
			t.Errorf("%s: the message is %d bytes, or not one printable line: %.300q", a.what, len(a.body), a.body)
		}
	}
	for what, text := range invalid {
		t.Run(what, func(t *testing.T) {
			for _, c := range []struct {
				path string
				p    params
			}{
				{at + "namespace", params{"parent": text}},
				{at + "namespace", params{"max-depth": text}},
				{at + "groups", params{"ns": text}},
				{at + "snapshots", params{"ns": text}},
				{at + "snapshots", params{"backup-type": text}},
				{at + "snapshots", params{"backup-type": "host", "backup-id": text}},
				{at + "files", snap.and(params{"ns": text})},
				{at + "files", snap.and(params{"backup-type": text})},
				{at + "files", snap.and(params{"backup-id": text})},
				{at + "files", snap.and(params{"backup-time": text})},
				{at + "catalog", snap.and(params{"filepath": text})},
				{at + "catalog", snap.and(params{"filepath": filepathOf(text)})},
				{at + "catalog", snap.and(params{"filepath": filepathOf("etc.pxar.didx", text)})},
				{at + "pxar-file-download", snap.and(params{"filepath": text})},
				{at + "pxar-file-download", snap.and(params{"filepath": filepathOf(text)})},
				{at + "pxar-file-download", snap.and(params{"filepath": filepathOf("etc.pxar.didx", text)})},
				{at + "pxar-file-download", snap.and(params{"filepath": filepathOf("etc.pxar.didx"), "tar": text})},
				{at + "download-decoded", snap.and(params{"file-name": text})},
				{at + "download-decoded", snap.and(params{"file-name": text + ".blob"})},
				{at + "download-decoded", snap.and(params{"file-name": text + ".fidx"})},
				{at + "status", params{text: "1"}},
				{"pbsfs/status", params{"store": text}},
			} {
				never(t, admin.get(c.path, c.p))
			}
			for _, path := range []string{
				"admin/datastore/%s/status", "admin/datastore/%s/groups", "admin/datastore/%s/active-operations", "config/datastore/%s", "pbsfs/maintenance/%s",
			} {
				a := admin.send("GET", apiBase+strings.Replace(path, "%s", url.PathEscape(text), 1), "", nil)
				if a.status/100 == 3 { // the mux has made the path plain, which leads nowhere else
					if to := a.header.Get("Location"); !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
						t.Errorf("%s: leads to %q", a.what, to)
					}
					continue
				}
				never(t, a)
			}
			for _, path := range []string{"pbsfs/maintenance/%s/set", "pbsfs/maintenance/%s/clear", "admin/datastore/%s/unmount"} {
				a := admin.send("POST", apiBase+strings.Replace(path, "%s", url.PathEscape(text), 1), "", nil)
				if a.status/100 != 3 {
					never(t, a)
				}
			}
			never(t, admin.form("POST", "pbsfs/maintenance/"+tank+"/set", params{"mode": text}))
			never(t, admin.form("PUT", "config/datastore/"+tank, params{"maintenance-mode": text}))
			never(t, admin.form("PUT", "config/datastore/"+tank, params{"delete": text + "x"}))
			never(t, admin.form("PUT", "config/datastore/"+tank, params{"maintenance-mode": "offline", "digest": text}))
		})
	}
	t.Run("paths of requests", func(t *testing.T) {
		for _, path := range []string{
			"/../../etc/passwd", "/api2/json/../../../etc/passwd", "/api2/json/%2e%2e/%2e%2e/etc/passwd", "/api2/json/..%2f..%2fsecret",
			"//evil.example/api2/json/version", "/api2/json//version", "/api2/json/version/", `/api2/json/..\..\secret`, "/api2/json/version%00",
			"/api2/json/admin/datastore/" + tank + "/%2e%2e/status", "/api2/json/admin/datastore/%74ank%2fstatus", "/pbsfs/../api2/../secret", "/.git/config", "/secret",
		} {
			raw := rawRequest(t, s, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken="+s.tokens["admin"]+"\r\nConnection: close\r\n\r\n")
			if strings.Contains(raw, secret) || strings.Contains(raw, "root:") || strings.HasPrefix(raw, "HTTP/1.1 2") || strings.HasPrefix(raw, "HTTP/1.1 5") {
				t.Errorf("GET %s: got %.300q", path, raw)
			}
			if strings.Contains(raw, "Location: //") || strings.Contains(raw, "Location: http") {
				t.Errorf("GET %s: leads elsewhere: %.300q", path, raw)
			}
		}
	})
	check(t)
}

// rawRequest sends bytes, and returns all that comes back until the connection ends.
func rawRequest(t *testing.T, s *apiServer, text string) string {
	t.Helper()
	c := dial(t, s)
	_, err := io.WriteString(c, text)
	must(t, err)
	got, _ := io.ReadAll(c) // the server may have ended the connection unread
	return string(got)
}

// dial connects to a server that speaks without TLS.
func dial(t *testing.T, s *apiServer) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// A path in base64 names what is below an archive, or nothing: what other tools take for
// a way up is a name here, or is refused.
func TestServeRefusesWaysUpInPaths(t *testing.T) {
	s, check := attacked(t)
	read := s.as("read")
	snap := snapshotParams(t, alpha)
	for _, path := range []string{
		"../..", "etc.pxar.didx/..", "etc.pxar.didx/../..", "etc.pxar.didx/./x", "etc.pxar.didx/a/../../../index.json.blob",
		"etc.pxar.didx/\x00", "/etc.pxar.didx/..", "..", ".", "index.json.blob/..", "../" + filepath.Base(alpha) + "/etc.pxar.didx",
	} {
		p := snap.and(params{"filepath": base64.StdEncoding.EncodeToString([]byte(path))})
		for _, how := range []string{"catalog", "pxar-file-download"} {
			read.get("admin/datastore/"+tank+"/"+how, p).refused(http.StatusBadRequest, "filepath", "is no name")
		}
	}
	for _, encoded := range []string{"!!!", "/etc/passwd", "L2V0Y", "%2e%2e", "Li4vLi4=\n!", "-_-_"} {
		p := snap.and(params{"filepath": encoded})
		a := read.get("admin/datastore/"+tank+"/catalog", p)
		if a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
			t.Errorf("filepath %q: got %d: %s", encoded, a.status, a.body)
		}
	}
	check(t)
}

// Who shows a wrong token, or none, learns nothing and changes nothing.
func TestServeRefusesWrongTokens(t *testing.T) {
	s, check := attacked(t)
	right := s.tokens["admin"]
	id, secret, _ := strings.Cut(right, ":")
	for what, header := range map[string]string{
		"none":                  "",
		"of PVE":                "PVEAPIToken=" + right,
		"bearer":                "Bearer " + right,
		"basic":                 "Basic " + base64.StdEncoding.EncodeToString([]byte(right)),
		"no scheme":             right,
		"a space for the equal": "PBSAPIToken " + right,
	} {
		t.Run(what, func(t *testing.T) {
			who := s.with()
			if header != "" {
				who = s.with("Authorization", header)
			}
			a := who.get("admin/datastore", nil).refused(http.StatusUnauthorized, "authentication failed")
			if a.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			who.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline"}).refused(http.StatusUnauthorized)
			if strings.Contains(string(a.body), secret) {
				t.Errorf("the answer repeats the secret: %s", a.body)
			}
		})
	}
	wrong := []string{
		id + ":", id + ":" + secret[:len(secret)-1], "root@pam!x:" + secret, strings.Repeat("x", 20000),
	}
	for _, token := range wrong {
		a := s.with("Authorization", "PBSAPIToken="+token).change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline"})
		a.refused(http.StatusUnauthorized, "authentication failed")
		if strings.Contains(string(a.body), token) {
			t.Errorf("the answer repeats the token: %s", a.body)
		}
		s.as("read").get("version", nil).want(http.StatusOK) // which ends the delays
	}
	s.with().change("POST", "pbsfs/session", data{"token": "no"}).refused(http.StatusUnauthorized)
	s.with("Cookie", "pbsfs-session=guessed").get("version", nil).refused(http.StatusUnauthorized)
	check(t)
}

// Each role may what is said of it, and no more.
func TestServeRolesMayWhatIsSaidOfThem(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	s := servesTank(t, store)
	check := unharmed(t, s.host, store)
	snap := snapshotParams(t, alpha)
	at := "admin/datastore/" + tank + "/"
	contents := []struct {
		path string
		p    params
	}{
		{at + "catalog", snap.and(params{"filepath": filepathOf("")})},
		{at + "pxar-file-download", snap.and(params{"filepath": filepathOf("etc.pxar.didx", "alpha-9.conf")})},
		{at + "download-decoded", snap.and(params{"file-name": "client.log.blob"})},
	}
	lists := []string{"admin/datastore", at + "groups", at + "snapshots", at + "namespace", at + "status", "pbsfs/status", "config/datastore", "version"}
	for _, role := range roleNames {
		for _, c := range []apiCaller{s.as(role), s.login(role)} {
			for _, path := range lists {
				c.get(path, nil).want(http.StatusOK)
			}
			for _, read := range contents {
				if role == "audit" {
					c.get(read.path, read.p).refused(http.StatusForbidden, "role read", "has the role audit")
				} else {
					c.get(read.path, read.p).want(http.StatusOK)
				}
			}
			if role == "admin" {
				continue
			}
			for path, p := range map[string]data{
				"pbsfs/maintenance/" + tank + "/set": {"mode": "offline"}, "pbsfs/maintenance/" + tank + "/clear": nil, at + "unmount": nil,
			} {
				c.change("POST", path, p).refused(http.StatusForbidden, "role admin", "has the role "+role)
			}
			c.change("PUT", "config/datastore/"+tank, data{"maintenance-mode": "offline"}).refused(http.StatusForbidden, "role admin")
		}
	}
	check(t)
	// A token that is removed is worth nothing at once, and neither is its session.
	token, page := s.as("read"), s.login("read")
	s.host.run("serve", "token", "remove", "read").want(t, 0)
	token.get("version", nil).refused(http.StatusUnauthorized)
	page.get("version", nil).refused(http.StatusUnauthorized)
	s.as("audit").get("version", nil).want(http.StatusOK)
	s.host.addToken("read", "audit") // another secret, and another role
	token.get("version", nil).refused(http.StatusUnauthorized)
}

// A body that is longer than any that makes sense is not read, whatever it says of its
// length.
func TestServeDoesNotReadHugeBodies(t *testing.T) {
	s, check := attacked(t)
	admin := s.as("admin")
	huge := `{"mode":"offline","message":"` + strings.Repeat("x", 1<<20) + `"}`
	path := apiBase + "pbsfs/maintenance/" + tank + "/set"
	admin.send("POST", path, "application/json", strings.NewReader(huge)).refused(http.StatusRequestEntityTooLarge, "65536")
	admin.send("POST", path, "application/json", struct{ io.Reader }{strings.NewReader(huge)}).refused(http.StatusRequestEntityTooLarge, "65536")
	admin.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader("mode=offline&"+strings.Repeat("x=1&", 1<<18))).refused(http.StatusRequestEntityTooLarge)
	deep := strings.Repeat(`{"mode":`, 4000) + "1" + strings.Repeat("}", 4000)
	admin.send("POST", path, "application/json", strings.NewReader(deep)).refused(http.StatusBadRequest)
	// It has said that there is more than it will ever read, and does not wait for it.
	c := dial(t, s)
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken=%s\r\nContent-Type: application/json\r\nContent-Length: 9000000000\r\n\r\n%s", path, s.tokens["admin"], huge[:70000])
	got, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("with a length of 9 GB: got %+v, %v", got, err)
	}
	// A header, too.
	long := rawRequest(t, s, "GET /api2/json/version HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
	if !strings.HasPrefix(long, "HTTP/1.1 431 ") {
		t.Errorf("a header of 100 KiB: got %.100q, want 431", long)
	}
	check(t)
}

// A client that sends a request and nothing more, not even later, may still read the
// answer. It must not be one that says that all is well when it is not.
func TestServeDoesNotSayYesToWhoHangsUp(t *testing.T) {
	s, check := attacked(t)
	body := `{"mode":"offline","message":"x"}`
	for what, text := range map[string]string{
		"a wrong token":              "GET /api2/json/version HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken=" + s.tokens["admin"] + "x\r\n\r\n",
		"a change by a wrong token":  "POST /api2/json/pbsfs/maintenance/" + tank + "/clear HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken=" + s.tokens["admin"] + "x\r\n\r\n",
		"a change that is forbidden": "POST /api2/json/pbsfs/maintenance/" + tank + "/set HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken=" + s.tokens["read"] + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"a body that does not come":  "POST /api2/json/pbsfs/maintenance/" + tank + "/set HTTP/1.1\r\nHost: x\r\nAuthorization: PBSAPIToken=" + s.tokens["admin"] + "\r\nContent-Length: 100\r\n\r\n" + body,
	} {
		c := dial(t, s)
		_, err := io.WriteString(c, text)
		must(t, err)
		must(t, c.(*net.TCPConn).CloseWrite())
		if got, err := io.ReadAll(c); bytes.HasPrefix(got, []byte("HTTP/1.1 2")) {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	check(t)
}

package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

// Policy is the Content-Security-Policy that the page is written for, and sent with.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// prefix is where the assets of the page are; index.html itself is at "/".
const prefix = "/page/"

//go:embed assets
var assets embed.FS

// types are the content types by extension. The table of the machine is not asked: what a
// script is must not depend on it.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file, ready to be sent.
type asset struct {
	contentType string
	etag        string
	content     []byte
}

// Handler serves the page and its assets, and nothing else. Other headers for security are
// the server's, which has more to protect than the page.
func Handler() http.Handler {
	all := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := all[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("Content-Type", a.contentType)
		h.Set("Cache-Control", "no-cache") // kept, but asked for again: a new version shows at once
		h.Set("ETag", a.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
	})
}

// load reads the assets, by the path they are served at. It panics if the program was
// built wrong, at its start.
func load() map[string]asset {
	files, err := assets.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	all := make(map[string]asset)
	for _, f := range files {
		content, err := assets.ReadFile(path.Join("assets", f.Name()))
		if err != nil {
			panic(err)
		}
		contentType, ok := types[path.Ext(f.Name())]
		if !ok {
			panic("page: no content type for " + f.Name())
		}
		sum := sha256.Sum256(content)
		at := prefix + f.Name()
		if f.Name() == "index.html" {
			at = "/"
		}
		all[at] = asset{contentType, `"` + hex.EncodeToString(sum[:]) + `"`, content}
	}
	return all
}

package api

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
)

// operation is one declaration.
type operation struct {
	method  string
	path    string // below the base, with {name} for a part that is a parameter
	summary string
	need    token.Role // 0 for what everybody may
	in      reflect.Type
	out     reflect.Type     // of the data in the answer; nil for what is no JSON
	media   string           // of what is no JSON
	beside  []string         // fields beside the data
	share   func(*API) slots // bounds how many are met at once; nil for what takes little
	serve   func(*call) error
}

// changes reports whether the operation changes something.
func (o *operation) changes() bool { return o.method != http.MethodGet }

// ours reports whether the server of PBS has no such operation. Clients that were written
// for the server expect text where something is refused.
func (o *operation) ours() bool { return strings.HasPrefix(o.path, "pbsfs/") }

// call is one request to an operation.
type call struct {
	*API
	op     *operation
	w      http.ResponseWriter
	r      *http.Request
	caller access.Caller
	has    map[string]bool // the parameters that were given
	beside map[string]any  // what stands beside the data of the answer
}

// put puts a field beside the data of the answer. It must be one that the operation
// declares.
func (c *call) put(field string, value any) {
	if c.beside == nil {
		c.beside = make(map[string]any)
	}
	c.beside[field] = value
}

// answering declares an operation that answers with JSON.
func answering[In, Out any](method, path string, need token.Role, summary string, fn func(*call, In) (Out, error)) *operation {
	return &operation{
		method: method, path: path, need: need, summary: summary,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		serve: func(c *call) error {
			var in In
			if err := c.parse(&in); err != nil {
				return err
			}
			out, err := fn(c, in)
			if err != nil {
				return err
			}
			return c.answer(out)
		},
	}
}

// sending declares an operation whose answer is a stream of bytes. After the first of
// them, an error ends the connection.
func sending[In any](path, media, summary string, need token.Role, fn func(*call, In) error) *operation {
	return &operation{
		method: http.MethodGet, path: path, need: need, summary: summary,
		in: reflect.TypeFor[In](), media: media,
		serve: func(c *call) error {
			var in In
			if err := c.parse(&in); err != nil {
				return err
			}
			return fn(c, in)
		},
	}
}

// with adds the fields that may stand beside the data of the answer.
func (o *operation) with(fields ...string) *operation {
	o.beside = fields
	return o
}

// bounded bounds how many requests to the operation are met at once, with others that
// share the slots.
func (o *operation) bounded(share func(*API) slots) *operation {
	o.share = share
	return o
}

// Long lists share slots, and so do downloads.
func listings(a *API) slots  { return a.listings }
func downloads(a *API) slots { return a.downloads }

// operations are all that there is.
func operations() []*operation {
	var all []*operation
	for _, some := range [][]*operation{
		aboutServer(), aboutSessions(), aboutDatastores(), aboutSnapshots(), aboutContents(), aboutConfig(), aboutMaintenance(), aboutEvents(),
	} {
		all = append(all, some...)
	}
	return all
}

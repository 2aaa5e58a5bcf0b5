package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store/name"
)

// The parameters of an operation are the fields of a struct. The tag param is the name of
// the parameter, and the tag doc is its description. A field is required unless its tag
// says "NAME,optional"; a parameter that is a part of the path is required anyway.

// badParam is a parameter that is not what it must be.
type badParam struct {
	name string
	err  error
}

// Error has the words of PBS, and what would be right.
func (e *badParam) Error() string {
	return fmt.Sprintf("parameter verification failed - '%s': %v", text.Printable(e.name), e.err)
}

func (e *badParam) Unwrap() error { return e.err }

// errTooLong says that the body of a request is longer than any that makes sense.
var errTooLong = errors.New("the body of the request is too long")

// errSlowBody says that the body of a request did not come in time.
var errSlowBody = errors.New("the body of the request comes too slowly")

// errBody says that a body cannot be understood.
var errBody = errors.New("the body is neither JSON nor a form")

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// bodyTime is how long a client may take to send a body.
const bodyTime = 20 * time.Second

// param is a declared parameter.
type param struct {
	name     string
	doc      string
	optional bool
	field    []int
	kind     kind
}

// kind is how a type of parameters is read, and described.
type kind struct {
	schema map[string]any
	parse  func(string) (any, error)
}

// These types are read in a way of their own.
type (
	// storeName is the name of a datastore.
	storeName string
	// treePath is a path in a snapshot: the stored name of an archive, and names in it.
	treePath []string
	// seconds is a duration.
	seconds time.Duration
	// names are several words, such as those of properties.
	names []string
)

// kinds are the types that parameters may have.
var kinds = map[reflect.Type]kind{
	reflect.TypeFor[string]():         {typed("string"), value(parseText)},
	reflect.TypeFor[bool]():           {typed("boolean"), value(parseBool)},
	reflect.TypeFor[int]():            {between("integer", name.MaxDepth), value(parseDepth)},
	reflect.TypeFor[seconds]():        {between("number", maxWait.Seconds()), value(parseSeconds)},
	reflect.TypeFor[names]():          {map[string]any{"type": "array", "items": typed("string")}, value(parseNames)},
	reflect.TypeFor[storeName]():      {typed("string"), value(parseStore)},
	reflect.TypeFor[name.Namespace](): {typed("string"), value(name.ParseNamespace)},
	reflect.TypeFor[name.Type]():      {map[string]any{"type": "string", "enum": name.Types()}, value(name.ParseType)},
	reflect.TypeFor[name.Time]():      {typed("integer"), value(parseTime)},
	reflect.TypeFor[name.File]():      {typed("string"), value(name.ParseFile)},
	reflect.TypeFor[treePath]():       {map[string]any{"type": "string", "contentEncoding": "base64"}, value(parsePath)},
	reflect.TypeFor[cfg.Digest]():     {map[string]any{"type": "string", "pattern": "^[0-9a-f]{64}$"}, value(cfg.ParseDigest)},
	reflect.TypeFor[cfg.ModeType]():   {map[string]any{"type": "string", "enum": settable}, value(parseModeType)},
}

// settable are the modes that can be set here.
var settable = []cfg.ModeType{cfg.ReadOnly, cfg.Offline}

// value makes a function of kind.parse.
func value[T any](parse func(string) (T, error)) func(string) (any, error) {
	return func(s string) (any, error) { return parse(s) }
}

func between(typ string, high any) map[string]any {
	return map[string]any{"type": typ, "minimum": 0, "maximum": high}
}

func typed(typ string) map[string]any { return map[string]any{"type": typ} }

func parseText(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("not valid UTF-8")
	}
	return s, nil
}

func parseDepth(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > name.MaxDepth {
		return 0, fmt.Errorf("%q is no number from 0 to %d", s, name.MaxDepth)
	}
	return n, nil
}

func parseSeconds(s string) (seconds, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > maxWait.Seconds() {
		return 0, fmt.Errorf("%q is no number of seconds from 0 to %.0f", s, maxWait.Seconds())
	}
	return seconds(n * float64(time.Second)), nil
}

func parseNames(s string) (names, error) {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == ';' }), nil
}

func parseStore(s string) (storeName, error) { return storeName(s), hosts.CheckStore(s) }

func parseTime(s string) (name.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return name.Time{}, fmt.Errorf("%q is no number of seconds since 1970", s)
	}
	return name.NewTime(time.Unix(n, 0))
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return true, nil
	case "0", "off", "no", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func parseModeType(s string) (cfg.ModeType, error) {
	if t := cfg.ModeType(s); t.Settable() {
		return t, nil
	}
	return "", fmt.Errorf("%q cannot be set, only %s and %s", s, cfg.ReadOnly, cfg.Offline)
}

// parsePath reads a path in base64, with or without padding. Names in it are bytes. A
// part that leads elsewhere than down is an error.
func parsePath(s string) (treePath, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(s); err != nil {
			return nil, errors.New("not base64")
		}
	}
	p := treePath{}
	for part := range strings.SplitSeq(string(raw), "/") {
		switch {
		case part == "":
		case part == ".", part == "..", strings.ContainsRune(part, 0):
			return nil, fmt.Errorf("%q is no name", part)
		default:
			p = append(p, part)
		}
	}
	return p, nil
}

// paramsOf returns the parameters that a struct declares, those of embedded structs
// included.
func paramsOf(t reflect.Type, path string) []param {
	var out []param
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("param")
		if !ok {
			continue
		}
		k, ok := kinds[f.Type]
		if !ok {
			panic(fmt.Sprintf("parameter %s of %s has a type that no parameter can have", tag, path))
		}
		called, option, _ := strings.Cut(tag, ",")
		out = append(out, param{called, f.Tag.Get("doc"), option == "optional", f.Index, k})
	}
	return out
}

// inPath reports whether the parameter is a part of a path.
func (p param) inPath(path string) bool { return strings.Contains(path, "{"+p.name+"}") }

// parse fills the struct for the parameters. Whatever is given and not declared is an
// error, so that nobody relies on what does nothing.
func (c *call) parse(in any) error {
	given, err := c.given()
	if err != nil {
		return err
	}
	into := reflect.ValueOf(in).Elem()
	c.has = make(map[string]bool)
	for _, p := range paramsOf(c.op.in, c.op.path) {
		values := given[p.name]
		if p.inPath(c.op.path) {
			values = []string{c.r.PathValue(p.name)}
		}
		delete(given, p.name)
		switch {
		case len(values) == 0 && p.optional:
			continue
		case len(values) == 0:
			//lint:ignore ST1005 the text is that of PBS
			return &badParam{p.name, errors.New("parameter is missing and it is not optional.")} //nolint:staticcheck // as above
		case len(values) > 1 && p.kind.schema["type"] != "array":
			return &badParam{p.name, errors.New("given more than once")}
		}
		v, err := p.kind.parse(strings.Join(values, ","))
		if err != nil {
			return &badParam{p.name, err}
		}
		into.FieldByIndex(p.field).Set(reflect.ValueOf(v))
		c.has[p.name] = true
	}
	for unknown := range given {
		return &badParam{unknown, errors.New("schema does not allow additional properties")}
	}
	return nil
}

// given returns the parameters in the query and in the body.
func (c *call) given() (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, &badParam{"query", err}
	}
	if !c.op.changes() {
		return q, nil
	}
	body, err := c.body()
	if err != nil {
		return nil, err
	}
	for k, v := range body {
		q[k] = append(q[k], v...)
	}
	return q, nil
}

// body reads the parameters in the body, which is a form or JSON.
func (c *call) body() (url.Values, error) {
	raw, err := readBody(c.w, c.r)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	switch {
	case err == nil && media == "application/x-www-form-urlencoded":
		v, err := url.ParseQuery(string(raw))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		return v, nil
	case err == nil && media != "application/json":
		return nil, fmt.Errorf("%w, but %s", errBody, media)
	}
	return parseJSON(raw)
}

// parseJSON reads parameters from a JSON object.
func parseJSON(raw []byte) (url.Values, error) {
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if d.More() {
		return nil, fmt.Errorf("%w: something follows the object", errBody)
	}
	out := make(url.Values, len(fields))
	for k, v := range fields {
		switch list, several := v.([]any); {
		case v == nil: // as if it had not been given
		case several:
			for _, item := range list {
				s, err := scalar(item)
				if err != nil {
					return nil, &badParam{k, err}
				}
				out.Add(k, s)
			}
		default:
			s, err := scalar(v)
			if err != nil {
				return nil, &badParam{k, err}
			}
			out.Add(k, s)
		}
	}
	return out, nil
}

// scalar returns a value of JSON as a form would have it.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("neither text nor a number nor a truth value")
}

// readBody reads a body that is not too long. After an error the deadline stays: the
// library reads the rest of a body before it answers.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var long *http.MaxBytesError
	switch {
	case err == nil:
		_ = rc.SetReadDeadline(time.Time{})
		return raw, nil
	case errors.As(err, &long):
		return nil, fmt.Errorf("%w: at most %d bytes are read", errTooLong, maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%w: it must be here in %s", errSlowBody, bodyTime)
	}
	return nil, fmt.Errorf("%w: %w", errBody, err)
}

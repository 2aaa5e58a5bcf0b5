package api

import (
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store/name"
)

// everyKind has a parameter of each type.
type everyKind struct {
	Text   string         `param:"text,optional"`
	Flag   bool           `param:"flag,optional"`
	Depth  int            `param:"depth,optional"`
	Wait   seconds        `param:"wait,optional"`
	Words  names          `param:"words,optional"`
	Store  storeName      `param:"store,optional"`
	NS     name.Namespace `param:"ns,optional"`
	Type   name.Type      `param:"type,optional"`
	Time   name.Time      `param:"time,optional"`
	File   name.File      `param:"file,optional"`
	Path   treePath       `param:"path,optional"`
	Digest cfg.Digest     `param:"digest,optional"`
	Mode   cfg.ModeType   `param:"mode,optional"`
}

// parsed parses the parameters of a request.
func parsed[In any](method, query, media, body string) (In, error) {
	var in In
	r := httptest.NewRequest(method, "/x?"+query, strings.NewReader(body))
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	c := &call{op: &operation{method: method, path: "x", in: reflect.TypeFor[In]()}, w: httptest.NewRecorder(), r: r}
	err := c.parse(&in)
	return in, err
}

func TestEveryKindHasATest(t *testing.T) {
	have := make(map[reflect.Type]bool)
	for f := range reflect.TypeFor[everyKind]().Fields() {
		have[f.Type] = true
	}
	for k := range kinds {
		if !have[k] {
			t.Errorf("parameters of type %s are not tested", k)
		}
	}
}

func TestParametersBecomeValues(t *testing.T) {
	in, err := parsed[everyKind]("GET", "text=a%20b&flag=yes&depth=2&wait=1.5&words=a,b&store=tank&ns=a/b&type=vm&time=1700000000&file=x.blob&mode=offline"+
		"&path="+base64.RawStdEncoding.EncodeToString([]byte("//a.pxar.didx//b\xff/"))+"&digest="+strings.Repeat("0a", 32), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if in.Text != "a b" || !in.Flag || in.Depth != 2 || time.Duration(in.Wait) != 1500*time.Millisecond || len(in.Words) != 2 || in.Store != "tank" ||
		in.NS.String() != "a/b" || in.Type != name.VM || in.Time.Unix() != 1700000000 || in.File.String() != "x.blob" || in.Mode != cfg.Offline ||
		!reflect.DeepEqual(in.Path, treePath{"a.pxar.didx", "b\xff"}) || in.Digest[31] != 0x0a {
		t.Errorf("got %+v", in)
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for query, want := range map[string]string{
		"text=%ff":              "text",
		"flag=perhaps":          "flag",
		"depth=8":               "depth",
		"depth=-1":              "depth",
		"wait=NaN":              "wait",
		"wait=-1":               "wait",
		"wait=1e9":              "wait",
		"store=..":              "store",
		"store=a/b":             "store",
		"store=":                "store",
		"ns=../x":               "ns",
		"ns=a//b":               "ns",
		"ns=1/2/3/4/5/6/7/8":    "ns",
		"type=qemu":             "type",
		"time=now":              "time",
		"time=9e9":              "time",
		"time=999999999999999":  "time",
		"file=../x.blob":        "file",
		"file=x":                "file",
		"path=%00":              "path",
		"path=" + b64("a/../b"): "path",
		"path=" + b64("./a"):    "path",
		"path=" + b64("a\x00b"): "path",
		"digest=abc":            "digest",
		"mode=delete":           "mode",
		"mode=type=offline":     "mode",
		"text=a&text=b":         "text",
		"other=1":               "other",
	} {
		_, err := parsed[everyKind]("GET", query, "", "")
		var bad *badParam
		if !errors.As(err, &bad) || bad.name != want || !strings.Contains(err.Error(), "parameter verification failed - '"+want+"': ") {
			t.Errorf("%s: %v, want an error about %s", query, err, want)
		}
	}
}

func TestWhatIsRequired(t *testing.T) {
	type two struct {
		A string `param:"a"`
		B string `param:"b,optional"`
	}
	var bad *badParam
	if _, err := parsed[two]("GET", "b=1", "", ""); !errors.As(err, &bad) || bad.name != "a" {
		t.Errorf("without a: %v", err)
	}
	if in, err := parsed[two]("GET", "a=", "", ""); err != nil || in.A != "" {
		t.Errorf("an empty a: %v", err)
	}
}

func TestBodies(t *testing.T) {
	type body struct {
		Text  string  `param:"text,optional"`
		Flag  bool    `param:"flag,optional"`
		Wait  seconds `param:"wait,optional"`
		Words names   `param:"words,optional"`
	}
	const form, jsonType = "application/x-www-form-urlencoded", "application/json; charset=utf-8"
	want := body{"a", true, seconds(2 * time.Second), names{"x", "y"}}
	for what, c := range map[string]struct{ query, media, body string }{
		"a form":                         {"", form, "text=a&flag=1&wait=2&words=x&words=y"},
		"JSON":                           {"", jsonType, `{"text":"a","flag":true,"wait":2,"words":["x","y"]}`},
		"JSON as text":                   {"", jsonType, `{"text":"a","flag":"1","wait":"2","words":"x,y"}`},
		"JSON of no type":                {"", "", `{"text":"a","flag":true,"wait":2.0,"words":["x","y"],"other":null}`},
		"the query":                      {"text=a&flag=1&wait=2&words=x,y", "", ""},
		"one half here, the other there": {"text=a&flag=1", form, "wait=2&words=x,y"},
	} {
		if got, err := parsed[body]("PUT", c.query, c.media, c.body); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	for what, c := range map[string]struct {
		media, body string
		want        error
	}{
		"XML":         {"text/xml", "<a/>", errBody},
		"plain text":  {"text/plain", `{"text":"a"}`, errBody}, // what a foreign page's form can send
		"no JSON":     {jsonType, `{"text":`, errBody},
		"a list":      {jsonType, `["text"]`, errBody},
		"two objects": {jsonType, `{}{}`, errBody},
		"a bad form":  {form, "text=%zz", errBody},
		"too much":    {jsonType, `{"text":"` + strings.Repeat("a", maxBody) + `"}`, errTooLong},
	} {
		if _, err := parsed[body]("PUT", "", c.media, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	var bad *badParam
	if _, err := parsed[body]("PUT", "", jsonType, `{"text":{"a":1}}`); !errors.As(err, &bad) {
		t.Errorf("an object in an object: %v", err)
	}
}

// Whatever a client sends, it is read as values or refused.
func FuzzParameters(f *testing.F) {
	f.Add("text=a&path=L2E", "application/json", `{"flag":true}`)
	f.Add("ns=a/b&time=1", "application/x-www-form-urlencoded", "mode=offline&digest=00")
	f.Add("words=a;b", "", `{"wait":1e400}`)
	f.Fuzz(func(t *testing.T, query, media, body string) {
		r := httptest.NewRequest("PUT", "/x", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", media)
		var in everyKind
		c := &call{op: &operation{method: "PUT", path: "x", in: reflect.TypeFor[everyKind]()}, w: httptest.NewRecorder(), r: r}
		if err := c.parse(&in); err != nil {
			if status, _ := answerTo(err); status >= 500 {
				t.Errorf("%v is a failure of ours: %d", err, status)
			}
			return
		}
		for _, part := range in.Path {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
				t.Errorf("%q is a part of a path", part)
			}
		}
		if strings.ContainsAny(string(in.Store), "/\x00") {
			t.Errorf("%q is the name of a datastore", in.Store)
		}
	})
}

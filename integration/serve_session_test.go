package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// login begins a session as the page does, and returns who has its cookie and sends the
// proof that changes need.
func (s *apiServer) login(role string) apiCaller {
	s.t.Helper()
	a := s.with().change("POST", "pbsfs/session", data{"token": s.tokens[role]})
	var session struct {
		Proof string `json:"CSRFPreventionToken"`
	}
	a.into(&session)
	cookie := (&http.Response{Header: a.header}).Cookies()
	if len(cookie) != 1 || session.Proof == "" {
		s.t.Fatalf("a login gave %d cookies and the proof %q", len(cookie), session.Proof)
	}
	return s.with("Cookie", cookie[0].Name+"="+cookie[0].Value, "CSRFPreventionToken", session.Proof)
}

// events is a stream of events that a test listens to.
type events struct {
	t    *testing.T
	in   *bufio.Reader
	stop context.CancelFunc
}

// events begins to listen, until the test ends.
func (s *apiServer) events(role string) *events {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	got, err := s.client.Do(s.as(role).request("GET", apiBase+"pbsfs/events", "", nil).WithContext(ctx))
	must(s.t, err)
	s.t.Cleanup(func() {
		stop()
		_ = got.Body.Close()
	})
	if media := got.Header.Get("Content-Type"); got.StatusCode != http.StatusOK || media != "text/event-stream" {
		s.t.Fatalf("events: got %s, %s", got.Status, media)
	}
	return &events{s.t, bufio.NewReader(got.Body), stop}
}

// next waits for an event of that name, and returns its data. Others are passed over.
func (e *events) next(name string) json.RawMessage {
	e.t.Helper()
	return e.wait("the event "+name, name)
}

func (e *events) wait(what, name string) json.RawMessage {
	e.t.Helper()
	late := time.AfterFunc(patience, e.stop)
	defer late.Stop()
	var event string
	for {
		line, err := e.in.ReadString('\n')
		if err != nil {
			e.t.Fatalf("waiting to be told: %s: %v", what, err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case field == "event":
			event = value
		case field == "data" && event == name:
			return json.RawMessage(value)
		}
	}
}

// until waits for an event about the datastore that is as it should be.
func (e *events) until(what string, is func(status) bool) {
	e.t.Helper()
	for {
		var s status
		must(e.t, json.Unmarshal(e.wait(what, "datastore"), &s))
		if is(s) {
			return
		}
	}
}

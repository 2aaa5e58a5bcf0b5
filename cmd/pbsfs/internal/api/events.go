package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/watch"
)

const (
	// heartbeat is how often a stream of events shows that it lives.
	heartbeat = 5 * time.Second
	// eventTime is how long a client may take to read an event.
	eventTime = 10 * time.Second
)

// aboutEvents is the stream of events.
func aboutEvents() []*operation {
	return []*operation{
		sending("pbsfs/events", "text/event-stream", "tell what changes, as it changes", token.Audit, sendEvents),
	}
}

// stream is one stream of events.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// send sends an event. A client that does not read it in time is given up.
func (s *stream) send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := s.rc.SetWriteDeadline(time.Now().Add(eventTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, text); err != nil {
		return err
	}
	return s.rc.Flush()
}

// sendEvents tells at first everything, and then what has changed, until the client goes,
// does not read, or may no longer know.
func sendEvents(c *call, _ nothing) error {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	if c.r.Method == http.MethodHead {
		return nil
	}
	s := &stream{c.w, http.NewResponseController(c.w)}
	sub := c.Changes.Subscribe()
	defer sub.Close()
	if err := s.send("hello", map[string]any{"version": c.Version, "heartbeat_s": heartbeat.Seconds()}); err != nil {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case v, more := <-sub.Views():
			if !more {
				return errors.Join(errCutOff, errors.New("the client does not read"))
			}
			err = s.view(v)
		case <-beat.C:
			if !c.Gate.Still(c.caller) {
				return nil
			}
			err = s.send("alive", map[string]any{"time": time.Now().UTC()})
		case <-c.r.Context().Done():
			return nil
		case <-c.ending.Done():
			return nil
		}
		if err != nil { // there is nobody to be told
			return nil
		}
	}
}

// view sends what is different in a view.
func (s *stream) view(v *watch.View) error {
	for _, name := range v.Gone {
		if err := s.send("gone", map[string]string{"datastore": name}); err != nil {
			return err
		}
	}
	for _, name := range v.Changed {
		i := slices.IndexFunc(v.All, func(d status.Store) bool { return d.Datastore == name })
		if i < 0 {
			continue
		}
		if err := s.send("datastore", v.All[i]); err != nil {
			return err
		}
	}
	return nil
}

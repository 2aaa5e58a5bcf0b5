package status

import (
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
)

// Mode is the mode of a datastore in JSON output. Type is null without a mode.
type Mode struct {
	Datastore string  `json:"datastore"`
	Type      *string `json:"type"`
	Message   string  `json:"message"`
	// Via is the entry that has the mode, if it has another name.
	Via string `json:"via,omitempty"`
}

// ModeOf returns the mode of a datastore for JSON output.
func ModeOf(host hosts.Host, store string) (Mode, error) {
	m, err := maint.ReadMode(host, store)
	if err != nil {
		return Mode{}, err
	}
	out := Mode{Datastore: store, Message: m.Message, Via: m.Via}
	if m.Type != cfg.None {
		t := string(m.Type)
		out.Type = &t
	}
	if m.Problem != "" {
		out.Message = m.Problem
	}
	return out, nil
}

package main

import (
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
)

// modeJSON is the mode of a datastore as programs get it; Type is null without
// a mode.
type modeJSON struct {
	Datastore string  `json:"datastore"`
	Type      *string `json:"type"`
	Message   string  `json:"message"`
	// Via is the entry that has the mode, if that has another name.
	Via string `json:"via,omitempty"`
}

// modeOf returns the mode of a datastore for programs.
func modeOf(host hosts.Host, store string) (modeJSON, error) {
	m, err := maint.ReadMode(host, store)
	if err != nil {
		return modeJSON{}, err
	}
	out := modeJSON{Datastore: store, Message: m.Message, Via: m.Via}
	if m.Type != cfg.None {
		t := string(m.Type)
		out.Type = &t
	}
	if m.Problem != "" {
		out.Message = m.Problem
	}
	return out, nil
}

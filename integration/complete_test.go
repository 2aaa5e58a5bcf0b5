package integration

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// complete returns what a shell is offered for the last argument. The command must
// succeed and say nothing but what cobra says to those who look for faults in scripts.
func (h *host) complete(args ...string) []string {
	h.t.Helper()
	r := h.bounded(append([]string{"__complete"}, args...)...)
	r.want(h.t, 0)
	if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "Completion ended") {
		h.t.Errorf("complete %q says %q", args, r.stderr)
	}
	words := []string{}
	for l := range strings.Lines(r.stdout) {
		if word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t"); !strings.HasPrefix(word, ":") {
			words = append(words, word)
		}
	}
	return words
}

// listed returns what ls says lies in a directory, as paths.
func (h *host) listed(store, dir string) (all []string) {
	h.t.Helper()
	r := h.run("ls", store, dir)
	r.want(h.t, 0)
	for l := range strings.Lines(r.stdout) {
		all = append(all, dir+strings.TrimSuffix(l, "\n"))
	}
	return all
}

// What is offered is what ls lists, and looking leaves nothing that is counted.
func TestCompletionOffersWhatLsLists(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	h := m.host
	for _, dir := range []string{"", "host/", "host/alpha/", "host/alpha/latest/", "host/alpha/latest/root.pxar/etc/", "ns/"} {
		got, want := h.complete("ls", tank, dir), h.listed(tank, dir)
		for i, word := range got {
			got[i] = strings.TrimSuffix(word, "/")
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("in %q: offered %q, listed %q", dir, got, want)
		}
	}
	if got := h.complete("unmount", filepath.Dir(m.path())); !slices.Contains(got, m.path()) {
		t.Errorf("unmount is offered %q, want %q as well", got, m.path())
	}
	if got := h.operations(); len(got) > 0 {
		t.Errorf("still counted: %+v", got)
	}
	h.run("maintenance", "set", tank, "offline").want(t, 0)
	if got := h.complete("ls", tank, ""); len(got) > 0 {
		t.Errorf("offline, and offered: %q", got)
	}
}

// Who presses a key neither waits nor is asked.
func TestCompletionNeitherWaitsNorAsks(t *testing.T) {
	h := newHost(t)
	dead := mute(t, subdir(t, h.dir, "dead"))
	replace(t, h.configFile(), fmt.Sprintf("datastore: hung\n\tpath %s\n", dead))
	if got := h.complete("ls", ""); !slices.Equal(got, []string{"hung"}) {
		t.Errorf("offered %q", got)
	}
	for _, args := range [][]string{{"ls", "hung", ""}, {"ls", dead, ""}, {"ls", "nothing", ""}, {"mount", "--device", "no such"}} {
		if got := h.complete(args...); len(got) > 0 {
			t.Errorf("%q: offered %q", args, got)
		}
	}
	h = newHost(t)
	h.run("datastore", "add", "secret", fixture(t, "ds-crypt")).want(t, 0)
	groups := h.complete("ls", "secret", "host/")
	if len(groups) == 0 {
		t.Fatal("an encrypted datastore has no groups")
	}
	for _, g := range groups {
		for _, in := range h.complete("ls", "secret", g+"latest/") {
			h.complete("ls", "secret", in)
		}
	}
}

package integration

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is asked for and is not there, or cannot be done, gets the status that HTTP has
// for it, and one message that names it.
func TestServeNamesWhatIsWrong(t *testing.T) {
	s, check := attacked(t)
	admin := s.as("admin")
	at := "admin/datastore/" + tank + "/"
	snap := snapshotParams(t, alpha)
	inside := func(parts ...string) params { return snap.and(params{"filepath": filepathOf(parts...)}) }
	for _, c := range []struct {
		path   string
		p      params
		status int
		says   []string
	}{
		{"admin/datastore/nope/status", nil, 404, []string{"no such datastore 'nope'"}},
		{"admin/datastore/nope/groups", nil, 404, []string{"no such datastore 'nope'"}},
		{"admin/datastore/nope/active-operations", nil, 404, []string{"no such datastore 'nope'"}},
		{"config/datastore/nope", nil, 404, []string{"no such datastore 'nope'"}},
		{"pbsfs/maintenance/nope", nil, 404, []string{"no such datastore 'nope'"}},
		{"pbsfs/status", params{"store": "nope"}, 404, []string{"no such datastore 'nope'"}},
		{"nothing", nil, 404, []string{"nothing", "not found"}},
		{at + "groups", params{"ns": "nope"}, 404, []string{"namespace", "nope"}},
		{at + "snapshots", params{"ns": "prod/nope"}, 404, []string{"namespace", "prod/nope"}},
		{at + "namespace", params{"parent": "nope"}, 404, []string{"namespace", "nope"}},
		{at + "namespace", params{"max-depth": "8"}, 400, []string{"max-depth", "0 to 7"}},
		{at + "snapshots", params{"backup-type": "host", "backup-id": "nope"}, 404, []string{"group", "host/nope"}},
		{at + "snapshots", params{"backup-type": "tape"}, 400, []string{"backup-type", "tape", "vm", "ct", "host"}},
		{at + "files", snap.and(params{"backup-id": "nope"}), 404, []string{"snapshot", "nope"}},
		{at + "files", snap.and(params{"backup-time": "1"}), 404, []string{"snapshot", "1970"}},
		{at + "files", snap.and(params{"backup-time": "yesterday"}), 400, []string{"backup-time", "yesterday", "seconds since 1970"}},
		{at + "files", snap.and(params{"ns": "prod"}), 404, []string{"snapshot"}},
		{at + "files", params{"backup-type": "host"}, 400, []string{"backup-", "missing"}},
		{at + "files", snap.and(params{"x": "y"}), 400, []string{"'x'", "additional"}},
		{at + "catalog", snap, 400, []string{"filepath", "missing"}},
		{at + "catalog", inside("nope.pxar.didx"), 404, []string{"nope.pxar.didx"}},
		{at + "catalog", inside("etc.pxar.didx", "nope"), 404, []string{"/etc.pxar.didx/nope"}},
		{at + "catalog", inside("etc.pxar.didx", "alpha-9.conf"), 400, []string{"alpha-9.conf", "not a directory"}},
		{at + "catalog", inside("etc.pxar.didx", "alpha-9.conf", "x"), 400, []string{"alpha-9.conf", "not a directory"}},
		{at + "catalog", inside("client.log.blob"), 400, []string{"client.log.blob", "not a directory"}},
		{at + "pxar-file-download", inside(), 400, []string{"filepath", "no archive"}},
		{at + "pxar-file-download", inside("etc.pxar.didx", "nope"), 404, []string{"/etc.pxar.didx/nope"}},
		{at + "pxar-file-download", inside("etc.pxar.didx", "").and(params{"tar": "perhaps"}), 400, []string{"tar", "perhaps", "true"}},
		{at + "download-decoded", snap.and(params{"file-name": "nope.conf.blob"}), 404, []string{"nope.conf.blob"}},
		{at + "download-decoded", snap.and(params{"file-name": "nope"}), 400, []string{"file-name", "nope"}},
	} {
		admin.get(c.path, c.p).refused(c.status, c.says...)
	}
	admin.send("PATCH", apiBase+"config/datastore/"+tank, "", nil).refused(http.StatusMethodNotAllowed, "PATCH")
	admin.change("POST", "admin/datastore", nil).refused(http.StatusMethodNotAllowed, "POST")
	check(t)
}

// A mode that cannot be set changes nothing, and the message says which can be.
func TestServeRefusesModesThatAreNone(t *testing.T) {
	s, check := attacked(t)
	admin := s.as("admin")
	config := "config/datastore/" + tank
	for _, mode := range []string{"type=offline", "type=offline,message=x", "foo", "", "offline,message", "offline,x=y", "Offline", " offline", "delete", "unmount", "s3-refresh"} {
		admin.form("PUT", config, params{"maintenance-mode": mode}).refused(http.StatusBadRequest, "maintenance")
		admin.change("PUT", config, data{"maintenance-mode": mode}).refused(http.StatusBadRequest, "maintenance")
		admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": mode}).refused(http.StatusBadRequest, "'mode'", "read-only and offline")
	}
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		method, path string
		p            data
		status       int
		says         []string
	}{
		{"PUT", config, data{"delete": "comment"}, 400, []string{"comment", "maintenance-mode"}},
		{"PUT", config, data{"delete": []string{"maintenance-mode", "path"}}, 400, []string{"path"}},
		{"PUT", config, data{"delete": "maintenance-mode", "maintenance-mode": "offline"}, 400, []string{"at once"}},
		{"PUT", config, data{"path": "/"}, 400, []string{"'path'"}},
		{"PUT", config, data{"maintenance-mode": "offline,message=" + long}, 400, []string{"64"}},
		{"PUT", config, data{"maintenance-mode": []string{"offline", "read-only"}}, 400, []string{"maintenance-mode", "more than once"}},
		{"PUT", config, data{"maintenance-mode": data{"type": "offline"}}, 400, []string{"maintenance-mode"}},
		{"PUT", config, data{"maintenance-mode": "offline", "digest": "abc"}, 400, []string{"digest"}},
		{"PUT", config, data{"maintenance-mode": "offline", "digest": strings.Repeat("0", 64)}, 400, []string{"detected modified configuration - file changed by other user? Try again."}},
		{"PUT", config, data{"delete": "maintenance-mode", "digest": strings.Repeat("0", 64)}, 400, []string{"detected modified configuration"}},
		{"PUT", "config/datastore/nope", data{"maintenance-mode": "offline"}, 404, []string{"no such datastore 'nope'"}},
		{"POST", "pbsfs/maintenance/nope/set", data{"mode": "offline"}, 404, []string{"no such datastore 'nope'"}},
		{"POST", "pbsfs/maintenance/nope/clear", nil, 404, []string{"no such datastore 'nope'"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", nil, 400, []string{"'mode'", "missing"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "message": long}, 400, []string{"64"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "message": "a\nb"}, 400, []string{"message"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "wait": 61}, 400, []string{"wait", "60"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "wait": "soon"}, 400, []string{"wait", "soon"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "drain": "perhaps"}, 400, []string{"drain", "perhaps"}},
		{"POST", "pbsfs/maintenance/" + tank + "/set", data{"mode": "offline", "draim": true}, 400, []string{"draim"}},
		{"POST", "admin/datastore/" + tank + "/unmount", nil, 400, []string{tank, "not a removable datastore"}},
		{"POST", "admin/datastore/nope/unmount", nil, 404, []string{"no such datastore 'nope'"}},
	} {
		admin.change(c.method, c.path, c.p).refused(c.status, c.says...)
	}
	for body, media := range map[string]string{
		`{"mode":"offline"`: "application/json", `["offline"]`: "application/json", `offline`: "application/json", `{"mode":"offline"}{}`: "application/json",
		"mode=%zz": "application/x-www-form-urlencoded", "<mode>offline</mode>": "application/xml", "\xff\xfe": "application/json",
	} {
		admin.send("POST", apiBase+"pbsfs/maintenance/"+tank+"/set", media, strings.NewReader(body)).refused(http.StatusBadRequest, "neither JSON nor a form")
	}
	check(t)
}

// A client of PBS changes the mode with the digest of what it has read; whoever read it
// earlier is refused.
func TestServeChangesTheModeAsTheServerDoes(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	admin := s.as("admin")
	path := "config/datastore/" + tank
	config := s.host.config()
	var entry struct {
		Data   map[string]string
		Digest string
	}
	admin.get(path, nil).want(http.StatusOK).decode(&entry)
	old := entry.Digest
	for _, value := range []string{"read-only", `offline,message="a, b"`, "offline,message=100 %25"} {
		admin.form("PUT", path, params{"maintenance-mode": value, "digest": entry.Digest}).want(http.StatusOK).says(`{"data":null}`)
		admin.get(path, nil).want(http.StatusOK).decode(&entry)
		if entry.Data["maintenance-mode"] != value {
			t.Errorf("the mode is %q, want %q", entry.Data["maintenance-mode"], value)
		}
		now := s.host.config()
		admin.form("PUT", path, params{"maintenance-mode": "read-only", "digest": old}).refused(http.StatusBadRequest, "detected modified configuration - file changed by other user? Try again.")
		admin.form("PUT", path, params{"delete": "maintenance-mode", "digest": old}).refused(http.StatusBadRequest, "detected modified configuration")
		if s.host.config() != now {
			t.Errorf("refused, but datastore.cfg changed to %s", s.host.config())
		}
	}
	admin.form("PUT", path, params{"delete": "maintenance-mode", "digest": entry.Digest}).want(http.StatusOK)
	if now := s.host.config(); now != config {
		t.Errorf("after the mode was set and cleared, datastore.cfg is\n%s\nbefore it was\n%s", now, config)
	}
	admin.form("PUT", path, params{}).want(http.StatusOK) // nothing to do
	// Modes that the server has set for itself stay.
	for _, mode := range []string{"delete", "unmount", "s3-refresh", "hibernate"} {
		s.host.force(mode)
		forced := s.host.config()
		admin.form("PUT", path, params{"maintenance-mode": "offline"}).refused(http.StatusConflict, tank)
		admin.form("PUT", path, params{"delete": "maintenance-mode"}).refused(http.StatusConflict, tank)
		admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "read-only", "drain": true}).refused(http.StatusConflict, tank)
		if s.host.config() != forced {
			t.Errorf("%s: datastore.cfg changed to %s", mode, s.host.config())
		}
	}
	s.host.force("")
}

// While a datastore is offline, whatever needs its content says so, with the message of
// whoever set the mode; the rest answers.
func TestServeSaysThatADatastoreIsOffline(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	admin := s.as("admin")
	at := "admin/datastore/" + tank + "/"
	snap := snapshotParams(t, alpha)
	asks := map[string]params{
		"status": nil, "namespace": nil, "groups": nil, "snapshots": nil, "files": snap,
		"catalog":            snap.and(params{"filepath": filepathOf("etc.pxar.didx")}),
		"pxar-file-download": snap.and(params{"filepath": filepathOf("etc.pxar.didx")}),
		"download-decoded":   snap.and(params{"file-name": "client.log.blob"}),
	}
	for path, p := range asks {
		admin.get(at+path, p).want(http.StatusOK)
	}
	var mode struct {
		Type    *string
		Message string
		Active  []any
		Open    []any
	}
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline", "message": "disk swap, then fsck"}).into(&mode)
	if mode.Type == nil || *mode.Type != "offline" || mode.Message != "disk swap, then fsck" || len(mode.Active)+len(mode.Open) != 0 {
		t.Errorf("set: got %+v", mode)
	}
	if shown := s.host.run("maintenance", "show", tank).stdout; shown != "offline: disk swap, then fsck\n" {
		t.Errorf("maintenance show says %q", shown)
	}
	for path, p := range asks {
		a := admin.get(at+path, p).refused(http.StatusServiceUnavailable, "offline", "disk swap, then fsck")
		if a.header.Get("Retry-After") == "" || a.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: got the header %v, want Retry-After, and no file", a.what, a.header)
		}
	}
	var list []struct{ Store, Maintenance string }
	admin.get("admin/datastore", nil).into(&list)
	if len(list) != 1 || list[0].Maintenance != "offline: disk swap, then fsck" {
		t.Errorf("the list of datastores is %+v, want the mode", list)
	}
	for _, path := range []string{at + "active-operations", "pbsfs/status", "pbsfs/maintenance/" + tank, "config/datastore/" + tank} {
		admin.get(path, nil).want(http.StatusOK)
	}
	admin.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).into(&mode)
	for path, p := range asks {
		admin.get(at+path, p).want(http.StatusOK)
	}
	// Read-only is in nobody's way here.
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "read-only"}).want(http.StatusOK)
	admin.get(at+"groups", nil).want(http.StatusOK)
	admin.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).want(http.StatusOK)
}

// A datastore that comes or goes while the server runs is there, or is not.
func TestServeFollowsTheConfiguration(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	audit := s.as("audit")
	split := fixture(t, "ds-split")
	audit.get("admin/datastore/later/groups", nil).refused(http.StatusNotFound)
	e := s.events("audit")
	var hello struct {
		Heartbeat float64 `json:"heartbeat_s"`
	}
	must(t, json.Unmarshal(e.next("hello"), &hello))
	if hello.Heartbeat <= 0 {
		t.Errorf("hello: %+v, want the time between signs of life", hello)
	}
	e.until("the first datastore", func(s status) bool { return s.Datastore == tank })
	s.host.run("datastore", "add", "later", split).want(t, 0)
	audit.get("admin/datastore/later/groups", nil).want(http.StatusOK).says("split-prelude")
	e.until("a new datastore", func(s status) bool { return s.Datastore == "later" })
	s.host.run("maintenance", "set", "later", "offline", "--wait", patience.String()).want(t, 0)
	e.until("its mode", func(s status) bool { return s.Datastore == "later" && s.Mode != nil && *s.Mode == "offline" })
	s.host.run("datastore", "remove", "later").want(t, 0)
	audit.get("admin/datastore/later/groups", nil).refused(http.StatusNotFound, "no such datastore 'later'")
	if gone := string(e.next("gone")); gone != `{"datastore":"later"}` {
		t.Errorf("told that %s is gone, want later", gone)
	}
	// The name stands for another datastore from now on.
	s.host.run("datastore", "add", "later", fixture(t, "ds-nasty")).want(t, 0)
	audit.get("admin/datastore/later/groups", nil).want(http.StatusOK).says("nasty")
}

// What was named at the start is served without being in the configuration.
func TestServeServesWhatIsNamed(t *testing.T) {
	h := newHost(t)
	store := fixture(t, "ds-basic")
	s := h.serveTokens(store)
	var list []struct{ Store string }
	s.as("audit").get("admin/datastore", nil).into(&list)
	if len(list) != 1 {
		t.Fatalf("got %+v, want the datastore that was named", list)
	}
	name := list[0].Store
	if !strings.Contains(name, filepath.Base(store)) {
		t.Errorf("the datastore in %s is called %q", store, name)
	}
	s.as("audit").get("admin/datastore/"+name+"/groups", nil).want(http.StatusOK)
	s.as("admin").form("PUT", "config/datastore/"+name, params{"maintenance-mode": "offline"}).refused(http.StatusBadRequest, name)
	s.as("admin").change("POST", "pbsfs/maintenance/"+name+"/set", data{"mode": "offline"}).refused(http.StatusBadRequest, name)
}

package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Many requests at once, many who listen, and one who reads slowly: everybody gets what is
// asked for, and then nothing is left of any of them.
func TestServeManyAtOnce(t *testing.T) {
	const requests, streams = 1000, 200
	s := servesTank(t, fixture(t, "ds-basic"), "--no-tls")
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = requests
	read := s.as("read")
	snap := snapshotParams(t, alpha)
	asks := []string{
		at("groups"), at("snapshots"), at("files") + "?" + snap.encode(), "pbsfs/status", "admin/datastore",
		at("catalog") + "?" + snap.and(params{"filepath": filepathOf("root.pxar.didx", "etc")}).encode(),
		at("download-decoded") + "?" + snap.and(params{"file-name": "client.log.blob"}).encode(),
		at("pxar-file-download") + "?" + snap.and(params{"filepath": filepathOf("etc.pxar.didx")}).encode(),
	}
	for _, path := range asks {
		read.send("GET", apiBase+path, "", nil).want(http.StatusOK)
	}
	s.client.CloseIdleConnections()
	s.host.idle(tank)
	before := s.settled(0)

	var all sync.WaitGroup
	listeners := make([]*events, streams)
	for i := range listeners {
		all.Go(func() {
			listeners[i] = s.events("audit")
			listeners[i].next("datastore")
		})
	}
	all.Wait()
	slow := read.readSlowly(at("download-decoded"), imageDownload(t))
	failed := make(chan error, requests)
	for i := range requests {
		all.Go(func() {
			a := read.try(read.request("GET", apiBase+asks[i%len(asks)], "", nil))
			if a.err != nil || a.status != http.StatusOK {
				failed <- fmt.Errorf("%s: got %d, %w: %.200s", a.what, a.status, a.err, a.body)
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	eventually(t, "only the slow reader being in the way", func() error {
		refused := s.host.run("maintenance", "set", tank, "offline", "--wait", "10ms")
		if refused.code != 3 || strings.Count(refused.stderr, "download by") != 1 || !strings.Contains(refused.stderr, ": 1 read, 0 write") {
			return unlike("got exit code %d: %s", refused.code, refused.stderr)
		}
		return nil
	})
	must(t, slow.Close())
	s.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	for _, e := range listeners { // they were there all the time
		e.until("the mode", func(s status) bool { return s.Mode != nil && *s.Mode == "offline" })
	}
	for _, e := range listeners {
		e.stop()
	}
	s.client.CloseIdleConnections()
	s.host.idle(tank)
	s.settled(before)
	s.host.run("maintenance", "clear", tank).want(t, 0)
	read.get(at("groups"), nil).want(http.StatusOK)
}

// settled waits until the server has not more descriptors than that, if it is not 0, and
// until none of them is of a datastore or of a connection. It returns how many there are.
func (s *apiServer) settled(most int) (n int) {
	s.t.Helper()
	eventually(s.t, "descriptors being closed", func() error {
		all := s.process.descriptors(s.t)
		sockets := 0
		for _, to := range all {
			if strings.HasPrefix(to, "socket:") {
				sockets++
			}
			if strings.Contains(to, "ds-basic") {
				return unlike("it has %s", to)
			}
		}
		if n = len(all); sockets > 1 || most > 0 && n > most {
			return unlike("there are %d descriptors, %d of them sockets, and there were %d: %q", n, sockets, most, all)
		}
		return nil
	})
	return n
}

// A client that ends a request in the middle, at whatever point, leaves nothing.
func TestServeForgetsWhoGoes(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"), "--no-tls")
	read := s.as("read")
	read.get(at("groups"), nil).want(http.StatusOK)
	s.client.CloseIdleConnections()
	s.host.idle(tank)
	before := s.settled(0)
	auth := "Host: x\r\nAuthorization: PBSAPIToken=" + s.tokens["admin"] + "\r\n"
	for what, text := range map[string]string{
		"no request":             "",
		"half a line":            "GET /api2",
		"half of the headers":    "GET /api2/json/version HTTP/1.1\r\nHost: ",
		"half a body":            "POST /api2/json/pbsfs/maintenance/" + tank + "/set HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"mode\":",
		"a body that is not all": "POST /api2/json/pbsfs/maintenance/" + tank + "/set HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{\"mode\":\"offline\"}\r\n",
		"the answer unread":      "GET /api2/json/" + at("download-decoded") + "?" + imageDownload(t).encode() + " HTTP/1.1\r\n" + auth + "\r\n",
		"an archive unread":      "GET /api2/json/" + at("pxar-file-download") + "?" + snapshotParams(t, alpha).and(params{"filepath": filepathOf("root.pxar.didx")}).encode() + " HTTP/1.1\r\n" + auth + "\r\n",
		"events unread":          "GET /api2/json/pbsfs/events HTTP/1.1\r\n" + auth + "\r\n",
		"no HTTP":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		for _, read := range []bool{false, true} {
			c := dial(t, s)
			_, err := io.WriteString(c, text)
			must(t, err)
			if read && strings.HasPrefix(text, "GET /api2/json/") && strings.HasSuffix(text, "\r\n\r\n") {
				if _, err := io.ReadFull(c, make([]byte, 100)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s: %v", what, err)
				}
			}
			must(t, c.Close())
		}
	}
	s.host.idle(tank)
	s.settled(before)
	if strings.Contains(s.host.config(), "maintenance-mode") {
		t.Errorf("half a request has changed the mode: %s", s.host.config())
	}
	s.host.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
}

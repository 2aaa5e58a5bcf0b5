package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/verify"
	"github.com/pbsfs/pbsfs/store/name"
)

// reported are the results of a verification: two damaged chunks and a blob.
func reported(t *testing.T, out verifyOutput, count *verify.Counts) {
	t.Helper()
	g, err := name.NewGroup(name.Namespace{}, name.Host, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.NewTime(time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := name.NewSnapshot(g, at)
	if err != nil {
		t.Fatal(err)
	}
	file, err := name.ParseFile("a.conf.blob")
	if err != nil {
		t.Fatal(err)
	}
	a, b := name.Digest{0xa}, name.Digest{0xb}
	in := func(path string, chunk name.Digest, ranges ...verify.Range) verify.Cost {
		return verify.Cost{Snapshot: s, Path: s.String() + "/root.pxar/" + path, Kind: verify.Ranges, Chunk: chunk, OfChunk: true, Ranges: ranges}
	}
	wrong := errors.New("wrong")
	for _, err := range []error{
		out.Damage(verify.Damage{Snapshot: s, File: file, Problem: verify.Damaged, Err: wrong}),
		out.Damage(verify.Damage{Chunk: a, OfChunk: true, Problem: verify.Missing, Err: errors.New("missing\nfrom")}),
		out.Damage(verify.Damage{Chunk: b, OfChunk: true, Problem: verify.Damaged, Err: wrong}),
		out.Cost(verify.Cost{Snapshot: s, Path: s.String() + "/a.conf", Kind: verify.File, Err: wrong}),
		out.Cost(in("one", a, verify.Range{Off: 0, End: 10})),
		out.Cost(in("one", b, verify.Range{Off: 10, End: 20})),
		out.Cost(in("one", a, verify.Range{Off: 20, End: 30})),
		out.Cost(in("l\xff\n", a, verify.Range{Off: 1, End: 2}, verify.Range{Off: 3, End: 4}, verify.Range{Off: 5, End: 6}, verify.Range{Off: 7, End: 8}, verify.Range{Off: 9, End: 10})),
		out.Cost(in("three", a, verify.Range{Off: 0, End: 1})),
		out.Cost(in("four", a, verify.Range{Off: 0, End: 1})),
		out.Told(verify.Told{Snapshot: s, Note: verify.Unlisted, File: "left\n"}),
		out.Told(verify.Told{Snapshot: s, Note: verify.Verified}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	count.DamagedChunks.Store(2)
	count.DamagedFiles.Store(1)
	count.HitFiles.Store(5)
	if err := out.summary(count, true); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyOutputForPeople(t *testing.T) {
	var stdout bytes.Buffer
	a := &app{stdout: &stdout}
	reported(t, a.verifyOutput(&verifyOptions{files: 2}), &verify.Counts{})
	const want = `host/alpha/2023-11-14T22:13:20Z/a.conf.blob: wrong
  host/alpha/2023-11-14T22:13:20Z/a.conf: cannot be opened
chunk 0a: missing\nfrom
  host/alpha/2023-11-14T22:13:20Z/root.pxar/one: bytes 0-9 and more
  host/alpha/2023-11-14T22:13:20Z/root.pxar/l\xff\n: bytes 1-1, 3-3, 5-5, 7-7 and 1 more range
  and 2 more
chunk 0b: wrong
  host/alpha/2023-11-14T22:13:20Z/root.pxar/one: bytes 10-19
host/alpha/2023-11-14T22:13:20Z/left\n: not listed in the manifest
checked 0 snapshots, 0 indexes, 0 blobs, 0 chunks; read 0 B in 0s, 0 B/s
damaged: 2 chunks, 1 file of snapshots; it costs 5 files
`
	if got := strings.ReplaceAll(stdout.String(), strings.Repeat("00", 31), ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Each result is a line of its own, and none is left out.
func TestVerifyOutputAsJSON(t *testing.T) {
	var stdout bytes.Buffer
	a := &app{stdout: &stdout}
	reported(t, a.verifyOutput(&verifyOptions{json: true, files: 2}), &verify.Counts{})
	events := make(map[string]int)
	raw := 0
	for line := range strings.Lines(stdout.String()) {
		var v struct {
			Event   string `json:"event"`
			PathRaw []byte `json:"path_base64"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events[v.Event]++
		if strings.HasSuffix(string(v.PathRaw), "/l\xff\n") {
			raw++
		}
	}
	if events["damage"] != 3 || events["cost"] != 7 || events["note"] != 2 || events["summary"] != 1 || len(events) != 4 || raw != 1 {
		t.Errorf("got %v, and %d paths as bytes:\n%s", events, raw, stdout.String())
	}
}

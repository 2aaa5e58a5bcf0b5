package served

import (
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// record returns the record of this process for a tree, in a directory of its own.
func record(t *testing.T) *Record {
	t.Helper()
	self, err := procfs.MarkSelf()
	if err != nil {
		t.Fatal(err)
	}
	return &Record{
		ProcessMark: self, Datastore: "tank", Path: "/srv/tank", Mountpoint: "/mnt", Device: "0:77",
		file: recordFile(t.TempDir(), self), own: true, uid: os.Geteuid(),
	}
}

func TestRecordsOfEndedProcessesGo(t *testing.T) {
	host := storetest.Host(t, "")
	r := record(t)
	r.file = recordFile(recordDir(host), r.ProcessMark)
	r.Path = "/srv/\xff"
	r.RawPath = rawName(r.Path)
	ended := *r
	ended.StartTime++ // another process that had the pid
	ended.file = filepath.Join(recordDir(host), "1.json")
	for _, left := range []*Record{r, &ended} {
		if err := left.write(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(recordDir(host), "2.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	known, err := Records(host)
	if err != nil {
		t.Fatal(err)
	}
	var own []*Record
	for _, k := range known {
		if k.Ours() {
			own = append(own, k)
		}
	}
	if len(own) != 1 || own[0].ProcessMark != r.ProcessMark || own[0].Path != r.Path {
		t.Errorf("%d records, want that of this process alone, with the bytes of its names", len(own))
	}
	if _, err := os.Stat(ended.file); !os.IsNotExist(err) {
		t.Errorf("the record of a process that has ended: %v", err)
	}
	own[0].Remove()
	if _, err := os.Stat(r.file); !os.IsNotExist(err) {
		t.Errorf("a record that was removed: %v", err)
	}
	(*Record)(nil).Remove()
}

func TestFindTakesTheNewestRecordOfADevice(t *testing.T) {
	m := mounts.Mount{Major: 0, Minor: 77, Source: "/srv/tank", Point: "/elsewhere"}
	old, now, other := record(t), record(t), record(t)
	old.StartTime, now.StartTime = 1, 2
	other.Device, other.StartTime = "0:78", 3
	for _, known := range [][]*Record{{old, now, other}, {other, now, old}} {
		if got := Find(known, m); got != now {
			t.Errorf("got %+v", got)
		}
	}
	if got := Find([]*Record{other}, m); got != nil {
		t.Errorf("got the record of another device: %+v", got)
	}
	before := &Record{Path: "/srv/tank", Mountpoint: "/mnt"} // left by an older version
	if Find([]*Record{before}, m) != nil {
		t.Error("a record without a device is of another mount point")
	}
	m.Point = "/mnt"
	if Find([]*Record{before}, m) != before {
		t.Error("a record without a device is found by its mount point")
	}
}

func TestServesByWhatKnowsBetterThanNames(t *testing.T) {
	r := record(t)
	for _, c := range []struct {
		target locate.Target
		want   bool
	}{
		{locate.Target{Name: "tank", Path: "/other"}, true},
		{locate.Target{Name: "other", Path: "/srv/tank/"}, true},
		{locate.Target{Name: "other", Path: "/srv/other"}, false},
	} {
		if got := r.Serves(c.target); got != c.want {
			t.Errorf("%+v: %v, want %v", c.target, got, c.want)
		}
	}
}

// What clears run directories does not part a mount from those who ask it.
func TestARemovedSocketComesBack(t *testing.T) {
	r := record(t)
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	c := &Control{
		record: r, log: slog.New(slog.DiscardHandler), busy: make(chan struct{}, 1), stop: make(chan struct{}),
		answer: func(conn net.Conn) {
			defer func() { _ = conn.Close() }()
			if json.NewDecoder(conn).Decode(new(Request)) == nil {
				_ = json.NewEncoder(conn).Encode(State{Away: "unplugged"})
			}
		},
		told: func() identity.ID { return identity.ID{} },
	}
	err := c.listen()
	c.all.Go(c.keep)
	defer c.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := r.Ask(t.Context(), Request{}); err != nil || s.Away != "unplugged" {
		t.Fatalf("asked: %+v, %v", s, err)
	}
	for _, file := range []string{r.socket(), r.file} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		answer := AskAll(t.Context(), []*Record{r})[r]
		if answer.Err == nil && r.stands() {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("record and socket do not come back: %v, %v", answer.Err, r.stands())
		}
	}
}

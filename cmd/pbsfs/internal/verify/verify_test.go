package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestNothingIsWritten(t *testing.T) {
	p, _ := everyKind(t)
	before := state(t, p.Dir)
	p.verify(Options{Unreferenced: true})
	if !maps.Equal(before, state(t, p.Dir)) {
		t.Error("the datastore was changed")
	}
}

func TestEachChunkIsReadOnce(t *testing.T) {
	p := newPlace(t)
	distinct := make(map[name.Digest]bool)
	for i, at := range []string{morning, noon, evening} {
		sn := p.Snapshot("host/alpha", at)
		root := files(1)
		root.Kids = append(root.Kids, storetest.File(fmt.Sprintf("only%d", i), noise(uint64(100+i), 500)))
		for _, d := range sn.Pxar("root.pxar.didx", root) {
			distinct[d] = true
		}
		sn.Finish()
	}
	got := p.verify(Options{})
	if n := got.Chunks.Load(); n != int64(len(distinct)) {
		t.Errorf("%d chunks were read, want %d", n, len(distinct))
	}
	if got.Snapshots.Load() != 3 || got.Manifests.Load() != 3 || got.Indexes.Load() != 3 {
		t.Errorf("got %d snapshots, %d manifests, %d indexes", got.Snapshots.Load(), got.Manifests.Load(), got.Indexes.Load())
	}
}

// The damage of a chunk is reported once, and each snapshot that has the chunk.
func TestSharedChunkCostsAllItsSnapshots(t *testing.T) {
	p := newPlace(t)
	var shared []name.Digest
	for _, at := range []string{morning, noon, evening} {
		sn := p.Snapshot("host/alpha", at)
		shared = sn.Pxar("root.pxar.didx", files(1))
		sn.Finish()
	}
	p.Remove(storetest.ChunkFile(shared[2]))
	got := p.verify(Options{})
	if len(got.damage) != 1 || got.damage[0].Chunk != shared[2] || got.damage[0].Problem != Missing {
		t.Errorf("got the damage %v", got.damage)
	}
	hit := make(map[name.Snapshot]bool)
	for _, c := range got.costs {
		if !c.OfChunk || c.Chunk != shared[2] {
			t.Errorf("%s: not the chunk's fault: %v", c.Path, c.Err)
		}
		hit[c.Snapshot] = true
	}
	if len(hit) != 3 || got.DamagedChunks.Load() != 1 {
		t.Errorf("got costs in %d snapshots and %d damaged chunks", len(hit), got.DamagedChunks.Load())
	}
}

// Two indexes that do not agree on a chunk are checked against it, each on its own.
func TestChunkIsCheckedForEachLengthAndMode(t *testing.T) {
	key := storetest.NewKey(t, 1)
	p := newPlace(t, key)
	data := []byte(noise(1, 300))
	right := p.Snapshot("host/alpha", evening)
	d := right.Dynamic("a.stream.didx", data)[0]
	right.Finish()
	for i, change := range []func(*storetest.Snapshot, string){
		func(sn *storetest.Snapshot, file string) { sn.DynamicOf(file, storetest.Piece{Digest: d, Size: 299}) },
		func(sn *storetest.Snapshot, file string) {
			sn.Key = key
			sn.DynamicOf(file, storetest.Piece{Digest: d, Size: 300})
		},
	} {
		wrong := p.Snapshot(fmt.Sprintf("host/wrong%d", i), noon)
		change(wrong, "a.stream.didx")
		wrong.Finish()
	}
	got := p.verify(Options{})
	want := []string{"host/wrong0/" + noon + "/a.stream", "host/wrong1/" + noon + "/a.stream"}
	var hit []string
	for _, c := range got.costs {
		hit = append(hit, c.Path)
	}
	if slices.Sort(hit); !slices.Equal(hit, want) || len(got.damage) != 2 || got.Chunks.Load() != 3 {
		t.Errorf("got costs %v, damage %v, %d chunks checked; want costs %v", hit, got.damage, got.Chunks.Load(), want)
	}
}

// Without its key, encrypted data is checked as far as that goes. What damage costs is
// then told of the archive.
func TestWithoutKey(t *testing.T) {
	key := storetest.NewKey(t, 3)
	p := newPlace(t)
	sn := p.Snapshot("host/enc", noon)
	sn.Key = key
	chunks := sn.Pxar("root.pxar.didx", files(1))
	sn.Blob("secret.conf.blob", []byte("secret"))
	sn.Log("a log")
	sn.Finish()
	got := p.verify(Options{})
	if len(got.damage) != 0 || got.SealedChunks.Load() != int64(len(chunks)) || got.SealedBlobs.Load() != 2 {
		t.Errorf("got damage %v, %d chunks and %d blobs checked in part, want none, %d and 2", got.damage, got.SealedChunks.Load(), got.SealedBlobs.Load(), len(chunks))
	}
	for name, change := range map[string]func(raw []byte) []byte{
		"bit flipped":  func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw },
		"not as long":  func([]byte) []byte { return storetest.Blob([]byte("short"), key) },
		"not sealed":   func([]byte) []byte { return storetest.Blob([]byte(noise(1, 200)), nil) },
		"nothing left": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(p.Dir, storetest.ChunkFile(chunks[1]))
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p.Write(storetest.ChunkFile(chunks[1]), change(slices.Clone(raw)))
			defer p.Write(storetest.ChunkFile(chunks[1]), raw)
			got := p.verify(Options{})
			if len(got.costs) != 1 || got.costs[0].Kind != Sealed || !slices.Equal(got.costs[0].Ranges, []Range{{200, 400}}) {
				t.Errorf("got costs %v", got.costs)
			}
		})
	}
	p.Write(sn.Dir+"/secret.conf.blob", []byte("garbage"))
	if got := p.verify(Options{}); !slices.Equal(got.lost(), []string{sn.Dir + "/secret.conf"}) {
		t.Errorf("damaged blob: costs %v", got.lost())
	}
}

// A snapshot that goes while it is verified, with its chunks, is no damage.
func TestRemovedMeanwhileIsNoDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(p *place, chunks []name.Digest)
	}{
		{"removed", func(p *place, chunks []name.Digest) {
			p.Remove("host/alpha")
			for _, d := range chunks {
				p.Remove(storetest.ChunkFile(d))
			}
		}},
		{"replaced", func(p *place, chunks []name.Digest) {
			p.Remove("host/alpha")
			again := p.Snapshot("host/alpha", noon)
			again.Pxar("root.pxar.didx", files(50))
			again.Finish()
			for _, d := range chunks {
				p.Remove(storetest.ChunkFile(d))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			sn := p.Snapshot("host/alpha", noon)
			chunks := sn.Pxar("root.pxar.didx", files(1))
			sn.Finish()
			f := p.stopped(sn.Dir, func() { test.change(p, chunks) })
			if len(f.damage)+len(f.costs) > 0 || f.DamagedChunks.Load() > 0 || f.Gone.Load() != 1 || len(f.told) != 1 || f.told[0].Note != Gone {
				t.Errorf("got damage %v, costs %v, told %v", f.damage, f.costs, f.told)
			}
		})
	}
}

// A chunk that was missing, and is there when it is about to be reported, is no damage.
func TestChunkThatComesBackIsNoDamage(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	chunks := sn.Pxar("root.pxar.didx", files(1))
	sn.Finish()
	path := filepath.Join(p.Dir, storetest.ChunkFile(chunks[1]))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.Remove(storetest.ChunkFile(chunks[1]))
	f := p.stoppedTwice(sn.Dir, func() {}, func() { p.Write(storetest.ChunkFile(chunks[1]), raw) })
	if len(f.damage)+len(f.costs) > 0 || f.DamagedChunks.Load() != 0 {
		t.Errorf("got damage %v, costs %v", f.damage, f.costs)
	}
}

// stopped verifies one snapshot, and calls then between reading its index and its chunks.
func (p *place) stopped(dir string, then func()) *found {
	p.t.Helper()
	return p.stoppedTwice(dir, then, func() {})
}

// stoppedTwice also calls last between reading the chunks and reporting.
func (p *place) stoppedTwice(dir string, then, last func()) *found {
	p.t.Helper()
	f := &found{}
	p.with(func(ref *store.Lookup, r *store.Reader) {
		ctx, cancel := context.WithCancelCause(p.t.Context())
		defer cancel(nil)
		c := newCheck(ref, r, Options{}, &f.Counts, f)
		c.cancel = cancel
		c.tasks = make(chan task, 1000)
		c.begin(ctx, snapshotName(p.t, dir))
		close(c.tasks)
		close(c.jobs)
		then()
		c.work(ctx)
		last()
		c.finishAll(ctx)
		if err := context.Cause(ctx); err != nil {
			p.t.Error(err)
		}
	})
	return f
}

func TestSkipVerified(t *testing.T) {
	p := newPlace(t)
	now := time.Now()
	for i, state := range []map[string]any{
		verifyState("ok", now.Add(-time.Hour)), verifyState("ok", now.Add(-50*time.Hour)), verifyState("failed", now.Add(-time.Hour)),
		verifyState("ok", now.Add(48*time.Hour)), nil,
	} {
		sn := p.Snapshot(fmt.Sprintf("host/h%d", i), noon)
		sn.Dynamic("a.stream.didx", []byte(noise(uint64(i), 100)))
		if state != nil {
			sn.Unprotected["verify_state"] = state
		}
		sn.Finish()
	}
	for _, test := range []struct {
		skip           time.Duration
		skipped, reads int64
	}{{0, 0, 5}, {time.Minute, 0, 5}, {24 * time.Hour, 1, 4}, {100 * time.Hour, 2, 3}} {
		got := p.verify(Options{SkipVerified: test.skip, Unreferenced: true})
		if got.Verified.Load() != test.skipped || got.Chunks.Load() != test.reads || got.Unreferenced.Load() != 0 {
			t.Errorf("%s: %d were skipped, %d chunks read, %d not referred to; want %d and %d, 0", test.skip, got.Verified.Load(), got.Chunks.Load(), got.Unreferenced.Load(), test.skipped, test.reads)
		}
	}
}

func verifyState(state string, at time.Time) map[string]any {
	return map[string]any{"state": state, "upid": fmt.Sprintf("UPID:pbs:00000F7A:000432C8:00000002:%08X:verify:tank:root@pam:", at.Unix())}
}

// A chunk that a skipped snapshot has is checked all the same for another one.
func TestSkippedSnapshotHidesNoChunk(t *testing.T) {
	p := newPlace(t)
	for at, state := range map[string]map[string]any{evening: verifyState("ok", time.Now().Add(-time.Hour)), noon: nil} {
		sn := p.Snapshot("host/alpha", at)
		sn.Dynamic("a.stream.didx", []byte("the same"))
		if state != nil {
			sn.Unprotected["verify_state"] = state
		}
		sn.Finish()
	}
	for _, unreferenced := range []bool{false, true} {
		if got := p.verify(Options{SkipVerified: 2 * time.Hour, Unreferenced: unreferenced}); got.Chunks.Load() != 1 || got.Verified.Load() != 1 {
			t.Errorf("got %d chunks, %d skipped", got.Chunks.Load(), got.Verified.Load())
		}
	}
}

func TestSampleChecksAPart(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	var pieces [][]byte
	for i := range 400 {
		pieces = append(pieces, fmt.Appendf(nil, "piece %d", i))
	}
	sn.Dynamic("a.stream.didx", pieces...)
	sn.Finish()
	got := p.verify(Options{Sample: 0.5})
	// Fewer than 100 of 400 fair coins: once in 10^24 runs.
	if n := got.Chunks.Load(); n < 100 || n > 300 || n+got.Unsampled.Load() != 400 {
		t.Errorf("%d chunks were checked, %d left out", n, got.Unsampled.Load())
	}
}

// The first bytes are free, up to the length of a chunk; the others take their time.
func TestThrottleWaits(t *testing.T) {
	p := newPlace(t)
	c := newCheck(nil, nil, Options{Rate: 1000}, &Counts{}, nil)
	now := time.Now()
	for range 3 {
		c.paid(t.Context(), int64(c.limit.Burst())/3)
	}
	if r := c.limit.ReserveN(now.Add(time.Second), 2000); !r.OK() || r.DelayFrom(now.Add(time.Second)) < 500*time.Millisecond {
		t.Errorf("2000 bytes after the free ones are to wait for %s", r.DelayFrom(now.Add(time.Second)))
	}
	sn := p.Snapshot("host/alpha", noon)
	sn.Dynamic("a.stream.didx", []byte("one"))
	sn.Finish()
	if got := p.verify(Options{Rate: 1 << 30}); got.Chunks.Load() != 1 {
		t.Errorf("got %d chunks", got.Chunks.Load())
	}
}

func TestUnreferenced(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	used := sn.Dynamic("a.stream.didx", []byte("used"))[0]
	sn.Finish()
	p.Chunk([]byte("nobody's"), nil)
	lost := p.Chunk([]byte("nobody's, and bad"), nil)
	p.Write(storetest.ChunkFile(lost)+".3.bad", make([]byte, 7))
	p.Remove(storetest.ChunkFile(lost))
	p.Write(storetest.ChunkFile(used)+".0.bad", []byte("an older state"))
	p.Write(storetest.ChunkFile(used)+".tmp_abc", []byte("being written"))
	p.Write(".chunks/0000/README", []byte("no chunk"))
	got := p.verify(Options{Unreferenced: true})
	if got.Unreferenced.Load() != 1 || got.BadUnused.Load() != 1 || got.UnreferencedBytes.Load() != int64(12+len("nobody's"))+7 {
		t.Errorf("got %d unreferenced, %d of them bad, %d bytes", got.Unreferenced.Load(), got.BadUnused.Load(), got.UnreferencedBytes.Load())
	}
	if len(got.damage) > 0 {
		t.Errorf("got damage %v", got.damage)
	}
}

func TestWhatIsTold(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	sn.Blob("some.conf.blob", []byte("x"))
	sn.Finish()
	p.Write(sn.Dir+"/left.conf.blob", []byte("y"))
	p.Write(sn.Dir+"/.protected", nil)
	p.Snapshot("host/alpha", evening) // not finished
	got := p.verify(Options{})
	var notes []string
	for _, n := range got.told {
		notes = append(notes, string(n.Note)+" "+n.Snapshot.Time().String()+" "+n.File)
	}
	if want := []string{"unfinished " + evening + " ", "unlisted " + noon + " left.conf.blob"}; !slices.Equal(notes, want) || len(got.damage) > 0 {
		t.Errorf("told %q, want %q; damage %v", notes, want, got.damage)
	}
}

func TestLockedSnapshotIsNotChecked(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	sn.Dynamic("a.stream.didx", []byte("one"))
	sn.Finish()
	dir, err := os.Open(filepath.Join(p.Dir, sn.Dir))
	if err == nil {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if got := p.verify(Options{}); got.Busy.Load() != 1 || got.Chunks.Load() != 0 || len(got.told) != 1 || !errors.Is(got.told[0].Err, store.ErrBusy) {
		t.Errorf("got %d busy, %d chunks, told %v", got.Busy.Load(), got.Chunks.Load(), got.told)
	}
}

// While a snapshot is verified it is locked, and afterwards it is not; all of that is one
// operation.
func TestVerifyIsOneOperationWithLocks(t *testing.T) {
	p := newPlace(t)
	for _, at := range []string{morning, noon} {
		sn := p.Snapshot("host/alpha", at)
		sn.Pxar("root.pxar.didx", files(1))
		sn.Finish()
	}
	p.Remove(".chunks/" + func() string {
		all, _ := filepath.Glob(filepath.Join(p.Dir, ".chunks/*/*"))
		return strings.TrimPrefix(all[0], filepath.Join(p.Dir, ".chunks")+"/")
	}())
	p.with(func(ref *store.Lookup, r *store.Reader) {
		w := &watcher{ref: ref}
		var count Counts
		if err := Run(t.Context(), ref, r, []name.Snapshot{snapshotName(t, "host/alpha/"+noon), snapshotName(t, "host/alpha/"+morning)}, Options{}, &count, w); err != nil {
			t.Fatal(err)
		}
		if w.costs == 0 || w.unlocked > 0 || w.reads != 1 {
			t.Errorf("got %d costs, %d of them without a lock, and up to %d operations", w.costs, w.unlocked, w.reads)
		}
	})
}

type watcher struct {
	found
	ref             *store.Lookup
	costs, unlocked int
	reads           int64
}

func (w *watcher) Cost(c Cost) error {
	w.costs++
	w.reads = max(w.reads, int64(w.ref.Operations().Read))
	if !slices.ContainsFunc(w.ref.Locked(), func(l store.LockedSnapshot) bool { return l.Snapshot == c.Snapshot }) {
		w.unlocked++
	}
	return nil
}

// A run that is interrupted, or whose reporter fails, ends with that.
func TestRunEndsEarly(t *testing.T) {
	p, subjects := everyKind(t)
	p.Remove(subjects[0].path)
	stop := errors.New("enough")
	p.with(func(ref *store.Lookup, r *store.Reader) {
		all := []name.Snapshot{snapshotName(t, "host/alpha/"+noon), snapshotName(t, "host/split/"+noon), snapshotName(t, "vm/100/"+noon)}
		var count Counts
		if err := Run(t.Context(), ref, r, all, Options{}, &count, failing{stop}); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		if err := Run(ctx, ref, r, all, Options{}, &count, &found{}); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Damage(Damage) error { return f.err }
func (f failing) Cost(Cost) error     { return f.err }
func (f failing) Told(Told) error     { return f.err }

// What was found before a signal is reported, even if it is not known what it costs.
func TestInterruptedRunReportsWhatItFound(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	chunks := sn.Pxar("root.pxar.didx", files(1))
	sn.Finish()
	p.Remove(storetest.ChunkFile(chunks[1]))
	f := &found{}
	p.with(func(ref *store.Lookup, r *store.Reader) {
		c := newCheck(ref, r, Options{}, &f.Counts, f)
		ctx, cancel := context.WithCancelCause(t.Context())
		c.cancel, c.tasks = cancel, make(chan task, 1000)
		c.begin(ctx, snapshotName(t, sn.Dir))
		close(c.tasks)
		close(c.jobs)
		c.work(ctx)
		cancel(errors.New("a signal"))
		c.finishAll(ctx)
		c.reportRest()
	})
	if len(f.damage) != 1 || f.damage[0].Chunk != chunks[1] || len(f.costs) > 0 || f.DamagedChunks.Load() != 1 {
		t.Errorf("got damage %v and costs %v", f.damage, f.costs)
	}
}

// A wrong signature costs the whole snapshot, if the key is there to tell.
func TestWrongSignature(t *testing.T) {
	key := storetest.NewKey(t, 5)
	for _, known := range []bool{true, false} {
		p := newPlace(t)
		if known {
			p.keys = append(p.keys, key.Key)
		}
		sn := p.Snapshot("host/alpha", noon)
		sn.Key = key
		sn.Blob("a.conf.blob", []byte("x"))
		sn.Signature = strings.Repeat("0", 64)
		sn.Finish()
		got := p.verify(Options{})
		if !known {
			if len(got.damage) > 0 {
				t.Errorf("without the key: got damage %v", got.damage)
			}
			continue
		}
		if lost, want := got.lost(), p.unreadable(); len(got.damage) != 1 || got.damage[0].File != name.Manifest || !slices.Equal(lost, want) || len(want) != 1 {
			t.Errorf("got damage %v, costs %v, want costs %v", got.damage, lost, want)
		}
	}
}

// A manifest with lines that are of no use is damaged, and the rest of it is checked.
func TestUselessLinesOfAManifest(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	d := sn.Dynamic("a.stream.didx", []byte("one"))[0]
	sn.Lines = append(sn.Lines, storetest.Line{Filename: "../b.conf.blob", CryptMode: "none"})
	sn.Finish()
	p.Remove(storetest.ChunkFile(d))
	got := p.verify(Options{})
	if lost, want := got.lost(), p.unreadable(); len(got.damage) != 2 || !slices.Equal(lost, want) || len(want) != 4 {
		t.Errorf("got damage %v, costs %v, want costs %v", got.damage, lost, want)
	}
}

// What does not lie in damaged chunks is not read to find out what damage costs: of a large
// archive that would be nearly everything. Here another chunk is lost before that, and
// nobody notices.
func TestOnlyWhatIsHitIsWalked(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("host/alpha", noon)
	root := storetest.Dir("",
		storetest.File("first", noise(1, 1500)),
		storetest.Dir("other", storetest.File("file", noise(2, 1500))),
		storetest.File("last", noise(3, 900)))
	chunks := sn.Pxar("root.pxar.didx", root)
	sn.Catalog("root.pxar.didx", root)
	sn.Finish()
	p.Remove(storetest.ChunkFile(chunks[3]))
	f := p.stoppedTwice(sn.Dir, func() {}, func() { p.Remove(storetest.ChunkFile(chunks[8])) }) // where the directory begins
	if len(f.costs) != 1 || f.costs[0].Path != sn.Dir+"/root.pxar/first" {
		t.Errorf("got costs %v", f.costs)
	}
}

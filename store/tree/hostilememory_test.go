//go:build !race

package tree_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// What is here measures memory, of which the race detector takes much.

// A blob may have 128 MiB, and gets no more.
func TestBlobsThatBecomeAGiB(t *testing.T) {
	for _, h := range []storetest.HostileFile{
		{What: "a blob that becomes a GiB", Broken: []string{"x.conf"}, Add: func(sn *storetest.Snapshot) {
			sn.Encoded("x.conf.blob", storetest.ZstdBomb(gib))
		}},
		{What: "a log that becomes a GiB", Broken: []string{"client.log"}, Add: func(sn *storetest.Snapshot) {
			sn.Store().Write(sn.Dir+"/client.log.blob", storetest.ZstdBomb(gib))
		}},
	} {
		t.Run(h.What, func(t *testing.T) { testHostileFile(t, h, func(*view, string) {}) })
	}
}

// Of large manifests of many snapshots, few are remembered.
func TestManyLargeManifestsTakeLittleMemory(t *testing.T) {
	const snapshots, bound = 50, 70 * mib
	raw := storetest.Compressed(bytes.Replace(storetest.ManyFiles(10), []byte(`"unprotected":{}`), []byte(`"unprotected":{"notes":"`+strings.Repeat("x", 1_000_000)+`"}`), 1))
	s := storetest.InMemory(t)
	for i := range snapshots {
		s.Write(fmt.Sprintf("host/a/2023-11-14T%02d:%02d:00Z/%s", i/60, i%60, name.Manifest), raw)
	}
	v := open(t, s)
	before := live()
	for i := range snapshots {
		v.walk(fmt.Sprintf("host/a/2023-11-14T%02d:%02d:00Z/index.json", i/60, i%60))
	}
	if got := live() - before; got > bound {
		t.Errorf("%d MiB are in memory after %d snapshots, want at most %d", got/mib, snapshots, bound/mib)
	}
	runtime.KeepAlive(v)
}

// live returns how much memory is in use.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// BenchmarkEncryptedRead reads images from their beginning to their end, in a
// new mount each time, encrypted ones and plain ones by turns. Reported is what
// is read of chunks that are not zeros, SUBJECT-MB/s, and how fast the encrypted
// one is in proportion to the plain one, "ratio".
//
// "fixture" are images as clients wrote them, of 20 MiB and different content.
// "large" are two images of the same content, which does not compress. "cold"
// begins with nothing in the kernel's caches; "warm" has the datastore's files
// there, so that what is left is the work of pbsfs.
func BenchmarkEncryptedRead(b *testing.B) {
	b.Run("fixture", func(b *testing.B) {
		key := filepath.Join(os.Getenv("PBSFS_FIXTURES"), "keys", keyNone)
		coldAndWarmImages(b,
			keyedImage("encrypted", benchStore(b, "ds-crypt"), encryptedImage, key),
			keyedImage("plain", benchStore(b, "ds-basic"), images[1], ""))
	})
	b.Run("large", func(b *testing.B) {
		benchStore(b, "ds-basic") // or nothing can be mounted
		store, key := largeImages(b)
		coldAndWarmImages(b,
			keyedImage("encrypted", store, "vm/2/"+largeTime+"/disk.img", key),
			keyedImage("plain", store, "vm/1/"+largeTime+"/disk.img", ""))
	})
}

// image is a subject that is one image, and how much of it is no zeros.
type image struct {
	subject
	data float64
}

// keyedImage is an image of a datastore, with the key that it needs.
func keyedImage(name, store, rel, key string) image {
	plain := pbsfs(name, store, rel)
	s := subject{name, func(b *testing.B) *served {
		b.Helper()
		if key == "" {
			return plain.mount(b)
		}
		dir := scratch(b)
		h := &host{dir: dir, uid: os.Geteuid(), vars: []string{
			"PBSFS_CONFIG_DIR=" + filepath.Join(dir, "config"), "PBSFS_RUN_DIR=" + filepath.Join(dir, "run"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		}}
		at := filepath.Join(dir, "mnt")
		check(b, os.Mkdir(at, 0o755))
		execute(b, h.command("mount", store, at, "--log", filepath.Join(dir, "log"), "--keyfile", key))
		return newServed(b, filepath.Join(at, rel), 0, func() error { return tryExecute(h.command("unmount", at)) })
	}}
	return image{subject: s}
}

func coldAndWarmImages(b *testing.B, all ...image) {
	for i := range all {
		all[i].data = dataOf(b, all[i].subject)
	}
	b.Run("cold", func(b *testing.B) {
		needDropCaches(b)
		benchmarkEncrypted(b, func() { dropCaches(b) }, all)
	})
	b.Run("warm", func(b *testing.B) { benchmarkEncrypted(b, func() {}, all) })
}

func benchmarkEncrypted(b *testing.B, before func(), all []image) {
	took := map[string][]float64{}
	for round := 0; b.Loop(); round++ {
		for i := range all {
			s := all[(i+round)%len(all)]
			before()
			at := s.mount(b)
			d, _ := timed(b, readFile, at.path)
			at.end()
			took[s.name] = append(took[s.name], d.Seconds())
		}
	}
	b.ReportMetric(0, "ns/op") // a round of all subjects means nothing
	rates := make([]float64, len(all))
	for i, s := range all {
		rates[i] = s.data / 1e6 / median(took[s.name])
		b.ReportMetric(rates[i], s.name+"-MB/s")
		b.ReportMetric(s.data/1e6, s.name+"-MB")
	}
	b.ReportMetric(rates[0]/rates[1], "ratio")
}

// dataOf returns how many bytes of an image are not holes.
func dataOf(b *testing.B, s subject) float64 {
	b.Helper()
	at := s.mount(b)
	defer at.end()
	var st unix.Stat_t
	check(b, unix.Stat(at.path, &st))
	if st.Blocks == 0 {
		b.Fatalf("%s: the image is all zeros", s.name)
	}
	return float64(st.Blocks * 512)
}

// largeTime is the time of the snapshots of large images, and largeChunks how
// many chunks they have.
const (
	largeTime   = "2023-11-14T12:00:00Z"
	largeChunks = 64
)

// largeImages makes a datastore of two images of the same content, 1 plain and 2
// encrypted, and returns its path and that of the key.
func largeImages(b *testing.B) (store, keyFile string) {
	b.Helper()
	start := time.Now()
	s := storetest.New(b)
	content := make([]byte, largeChunks*4<<20)
	_, err := rand.NewChaCha8([32]byte{1}).Read(content)
	check(b, err)
	for id, key := range map[string]*storetest.Key{"1": nil, "2": storetest.NewKey(b, 'k')} {
		sn := s.Snapshot("vm/"+id, largeTime)
		sn.Key = key
		sn.Fixed("disk.img.fidx", 4<<20, content)
		sn.Finish()
	}
	keyFile = filepath.Join(scratch(b), "key.json")
	const data = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=" // 32 times 'k'
	check(b, os.WriteFile(keyFile, fmt.Appendf(nil, `{"kdf":null,"created":"","modified":"","data":%q}`, data), 0o600))
	b.Logf("images made in %s", time.Since(start))
	return s.Dir, keyFile
}

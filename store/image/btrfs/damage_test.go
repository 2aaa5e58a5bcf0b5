package btrfs

import (
	"io"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// sealer gives whatever is read as tree blocks and as superblock the checksum that it should have,
// so that wrong bytes come as far as they can.
type sealer struct {
	r      io.ReaderAt
	blocks map[int64]int // sizes, by offset in the image
}

func (s sealer) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	for at := off &^ (minBlock - 1); at < off+int64(n); at += minBlock {
		size, ok := s.blocks[at]
		if !ok || at < off || at+int64(size) > off+int64(n) {
			continue
		}
		q := p[at-off:][:size]
		sum := checksums[0].of(q[checksumField:])
		copy(q, sum[:])
	}
	return n, err
}

// blocksOf returns the tree blocks of all trees that are read, and the superblock.
func blocksOf(t testing.TB, fs *FS, r io.ReaderAt) map[int64]int {
	t.Helper()
	all := map[int64]int{superblockOff: superblockSize}
	var visit func(id uint64, n *node)
	visit = func(id uint64, n *node) {
		all[n.off] = fs.nodeSize
		for i := range n.count {
			if n.level > 0 {
				c, err := fs.child(r, id, n, i, lastKey)
				if err != nil {
					t.Fatal(err)
				}
				visit(id, c)
			}
		}
	}
	trees := []tree{fs.rootsTree(), {chunkTree, fs.chunkRoot, fs.chunkGeneration, fs.chunkLevel}}
	wrong := damage{max: 1}
	fs.scan(r, fs.rootsTree(), key{}, key{lastFree, 255, math.MaxUint64}, &wrong, func(k key, _ []byte) bool {
		if k.kind == rootItem && (isSubvolume(k.object) || k.object == checksumTree) {
			t, err := fs.tree(r, k.object)
			wrong.add(err)
			trees = append(trees, t.tree)
		}
		return true
	})
	if err := wrong.err(); err != nil {
		t.Fatal(err)
	}
	for _, tr := range trees {
		n, err := fs.topOf(r, tr)
		if err != nil {
			t.Fatal(err)
		}
		visit(tr.id, n)
	}
	return all
}

// sealedFS reads through a sealer.
type sealedFS struct {
	image.FileSystem

	blocks map[int64]int
}

func (s sealedFS) Inode(r io.ReaderAt, n uint64) (*image.Inode, error) {
	return s.FileSystem.Inode(sealer{r, s.blocks}, n)
}

func (s sealedFS) Entries(r io.ReaderAt, n uint64) ([]image.Entry, error) {
	return s.FileSystem.Entries(sealer{r, s.blocks}, n)
}

func (s sealedFS) Readlink(r io.ReaderAt, n uint64) (string, error) {
	return s.FileSystem.Readlink(sealer{r, s.blocks}, n)
}

func (s sealedFS) Xattrs(r io.ReaderAt, n uint64) ([]image.Xattr, error) {
	return s.FileSystem.Xattrs(sealer{r, s.blocks}, n)
}

func (s sealedFS) Open(r io.ReaderAt, n uint64) (image.File, error) {
	f, err := s.FileSystem.Open(sealer{r, s.blocks}, n)
	return sealedFile{f, s.blocks}, err
}

type sealedFile struct {
	image.File

	blocks map[int64]int
}

func (s sealedFile) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	return s.File.ReadAt(sealer{r, s.blocks}, p, off)
}

func (s sealedFile) NextData(r io.ReaderAt, off int64) (int64, error) {
	return s.File.NextData(sealer{r, s.blocks}, off)
}

// opener returns a function that opens what is sealed.
func opener(blocks map[int64]int) imagetest.OpenFunc {
	return func(r io.ReaderAt, size int64) (image.FileSystem, error) {
		fs, err := open(sealer{r, blocks}, size)
		return sealedFS{fs, blocks}, err
	}
}

func TestDamageGivesErrorsAndNothingElse(t *testing.T) {
	s := small(t, "compress-force=zstd", bitOfEverything(t))
	imagetest.Damage(t, s, int64(len(s)), open, 8)
	// Where the checksums are right, wrong bytes come further.
	s = small(t, "compress-force=lzo", bitOfEverything(t))
	imagetest.Damage(t, s, int64(len(s)), opener(blocksOf(t, opened(t, s, int64(len(s))), s)), 20)
}

func TestUnreadablePagesAreNeverSilent(t *testing.T) {
	s := small(t, "compress-force=zlib", bitOfEverything(t))
	imagetest.Unreadable(t, s, int64(len(s)), open, 6)
}

// The input is a list of changes to the blocks of an image: which block, two bytes of offset, and
// what to flip there. The checksums are made right again.
func FuzzOpen(f *testing.F) {
	s := small(f, "compress-force=lzo", bitOfEverything(f))
	blocks := blocksOf(f, opened(f, s, int64(len(s))), s)
	offs := slices.Sorted(maps.Keys(blocks))
	f.Add([]byte{0, 0x95, 0, 1})
	f.Add([]byte{1, 0x64, 0, 1, 2, 0x60, 0, 255})
	f.Add([]byte{5, 0x70, 0, 0x80, 9, 0x76, 0, 1})
	f.Fuzz(func(_ *testing.T, changes []byte) {
		s := append(source{}, s...)
		for ; len(changes) >= 4; changes = changes[4:] {
			off := offs[int(changes[0])%len(offs)]
			within := (int(changes[1]) | int(changes[2])<<8) % blocks[off]
			s[off+int64(within)] ^= changes[3]
		}
		r := sealer{s, blocks}
		fs, err := Open(r, int64(len(s)))
		if err != nil {
			return
		}
		imagetest.Walk(fs, r, true)
	})
}

package verify

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// randomTree is a tree with hard links in all directions.
func randomTree(rng *rand.Rand) *storetest.Node {
	var made []*storetest.Node
	var dir func(called string, depth int) *storetest.Node
	dir = func(called string, depth int) *storetest.Node {
		d := storetest.Dir(called)
		for i := range 1 + rng.IntN(5) {
			called := fmt.Sprintf("%c%d", 'a'+rng.IntN(26), i)
			switch k := rng.IntN(10); {
			case k < 3 && depth < 4:
				d.Kids = append(d.Kids, dir(called, depth+1))
			case k == 3 && len(made) > 0:
				d.Kids = append(d.Kids, storetest.Link(called, made[rng.IntN(len(made))]))
			case k == 4:
				d.Kids = append(d.Kids, storetest.Symlink(called, "elsewhere"))
			default:
				f := storetest.File(called, noise(rng.Uint64(), rng.IntN(700)))
				d.Kids = append(d.Kids, f)
				made = append(made, f)
			}
		}
		return d
	}
	return dir("", 0)
}

// Whatever chunks of whatever archives are lost, the costs are what a reader fails on.
func TestRandomDamageCostsWhatCannotBeRead(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 77))
		p := newPlace(t)
		root := randomTree(rng)
		var chunks []name.Digest
		for _, at := range []string{morning, noon} {
			sn := p.Snapshot("host/alpha", at)
			if rng.IntN(2) == 0 {
				chunks = append(chunks, sn.Pxar("root.pxar.didx", root)...)
			} else {
				meta, payload := sn.Split("root", root)
				chunks = append(append(chunks, meta...), payload...)
			}
			if rng.IntN(3) > 0 {
				chunks = append(chunks, sn.Catalog("root.pxar.didx", root)...)
			}
			sn.Finish()
			root.Kids = append(root.Kids, storetest.File("zz"+at[11:13], noise(seed, 300)))
		}
		for range 1 + rng.IntN(3) {
			d := storetest.ChunkFile(chunks[rng.IntN(len(chunks))])
			if found, _ := filepath.Glob(filepath.Join(p.Dir, d)); len(found) > 0 {
				p.Remove(d)
			}
		}
		lost, want := p.verify(Options{}).lost(), p.unreadable()
		if !slices.Equal(lost, want) {
			t.Fatalf("seed %d: costs\n  %s\nwhat cannot be read\n  %s", seed, strings.Join(lost, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

package pxar

import (
	"bytes"
	"slices"
	"testing"
)

// itemsOf returns the positions of all headers of an archive, and for each byte
// whether it is content of a file.
func itemsOf(t *testing.T, b []byte) (headers []int64, content []bool) {
	t.Helper()
	content = make([]bool, len(b))
	for pos := int64(0); pos < int64(len(b)); {
		headers = append(headers, pos)
		end := pos + int64(le64(b[pos+8:]))
		if le64(b[pos:]) == itemPayload {
			for i := pos + headerSize; i < end; i++ {
				content[i] = true
			}
		}
		pos = end
	}
	return headers, content
}

func unified(t *testing.T) map[string][]byte {
	t.Helper()
	root, _, _ := linked()
	return map[string][]byte{
		"golden":     unhex(t, goldenUnified),
		"everything": (&encoder{}).archive(everything()),
		"sample":     (&encoder{}).archive(sample()),
		"links":      (&encoder{}).archive(root),
	}
}

// Whatever pieces an archive is cut into, all that is not content is kept, and
// nothing that is.
func TestSkimKeepsWhatIsNotContent(t *testing.T) {
	for name, b := range unified(t) {
		_, content := itemsOf(t, b)
		for _, step := range []int{1, 3, 7, 15, 16, 17, 40, 200, 1000, len(b)} {
			kept := make([]bool, len(b))
			var m Mark
			for at := 0; at < len(b); at += step {
				end := min(at+step, len(b))
				head := b[min(int64(at), m.Next):at]
				next, ok := Skim(head, b[at:end], int64(at), m, int64(len(b)), func(begin, stop int64) {
					if begin < int64(at) || stop > int64(end) || begin >= stop {
						t.Fatalf("%s in steps of %d: keeps %d to %d of %d to %d", name, step, begin, stop, at, end)
					}
					for i := begin; i < stop; i++ {
						kept[i] = true
					}
				})
				if !ok {
					t.Fatalf("%s in steps of %d: lost its way at %d", name, step, at)
				}
				m = next
			}
			for i := range b {
				if kept[i] == content[i] {
					t.Fatalf("%s in steps of %d: byte %d is content: %v, kept: %v", name, step, i, content[i], kept[i])
				}
			}
		}
	}
}

func TestRewindFindsHeaders(t *testing.T) {
	found := false
	for name, b := range unified(t) {
		headers, _ := itemsOf(t, b)
		for _, at := range []int64{0, 1, 100} {
			for _, pos := range append(headers, int64(len(b))) {
				if pos < at {
					continue
				}
				got := Rewind(b[at:], at, pos)
				if got > pos || got < at || got != int64(len(b)) && !slices.Contains(headers, got) {
					t.Errorf("%s: Rewind from %d to %d, which is no header", name, pos, got)
				}
				found = found || got < pos
			}
		}
	}
	if !found {
		t.Error("nothing was ever found")
	}
}

// FuzzSkim cuts whatever bytes in two. Nothing is kept that is not there.
func FuzzSkim(f *testing.F) {
	f.Add([]byte{}, 0, int64(0), false)
	f.Add((&encoder{}).archive(sample()), 100, int64(0), false)
	f.Add(bytes.Repeat([]byte{0xff}, 64), 20, int64(10), true)
	f.Fuzz(func(t *testing.T, b []byte, cut int, next int64, content bool) {
		if cut < 0 || cut > len(b) || next < 0 || next > int64(len(b)) {
			return
		}
		m := Mark{Next: next, Content: content}
		for _, r := range [][2]int{{0, cut}, {cut, len(b)}} {
			at, end := int64(r[0]), int64(r[1])
			if at-m.Next >= headerSize {
				return
			}
			last := at
			after, ok := Skim(b[min(at, m.Next):at], b[at:end], at, m, int64(len(b)), func(begin, stop int64) {
				if begin < last || stop > end || begin > stop {
					t.Fatalf("keeps %d to %d of %d to %d", begin, stop, last, end)
				}
				last = stop
			})
			if !ok {
				return
			}
			if after.Next < m.Next || after.Next > int64(len(b)) {
				t.Fatalf("goes on at %d, after %d of %d", after.Next, m.Next, len(b))
			}
			if p := Rewind(b[at:end], at, end); p < at || p > end {
				t.Fatalf("Rewind to %d, not in %d to %d", p, at, end)
			}
			m = after
		}
	})
}

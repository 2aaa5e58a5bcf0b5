package statefile

import "testing"

func FuzzParseLock(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 708 08:01:2629 0 EOF")
	f.Fuzz(func(_ *testing.T, text string) { parseLock(text) })
}

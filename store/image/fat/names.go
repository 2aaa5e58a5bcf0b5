package fat

import (
	"encoding/binary"
	"strings"
	"unicode"

	"github.com/pbsfs/pbsfs/store/image"
)

// The marks of lower case in short names.
const (
	lowerBase = 0x08
	lowerExt  = 0x10
)

// shortName returns the name in an entry.
func (e entry) shortName() string {
	b := [11]byte(e[:11])
	if b[0] == 0x05 { // stands for 0xe5, which would mean that the entry is deleted
		b[0] = deleted
	}
	base, ext := trimSpace(decode437(b[:8])), trimSpace(decode437(b[8:]))
	if e[caseOff]&lowerBase != 0 {
		base = lower(base)
	}
	if e[caseOff]&lowerExt != 0 {
		ext = lower(ext)
	}
	if ext != "" {
		return base + "." + ext
	}
	return base
}

func trimSpace(s string) string { return strings.TrimRight(s, " ") }

func lower(s string) string { return strings.Map(unicode.ToLower, s) }

// upper437 are the characters from 0x80 on.
var upper437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

// decode437 reads text in code page 437.
func decode437(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		if c < 0x80 {
			out.WriteByte(c)
		} else {
			out.WriteRune(upper437[c-0x80])
		}
	}
	return out.String()
}

const (
	partUnits = 13   // characters in a part of a long name
	maxParts  = 20   // parts
	lastPart  = 0x40 // marks the last part, which comes first
)

// longName is a long name that is being put together. Its parts lie before the entry, the
// last one first.
type longName struct {
	units []uint16
	next  int // the part that must come next; 0 when all are there
	sum   byte
	begun bool
	torn  bool // its beginning could not be read
}

// add adds a part.
func (l *longName) add(e entry) {
	n := int(e[0])
	if n&lastPart != 0 {
		n &^= lastPart
		*l = longName{}
		if n < 1 || n > maxParts {
			return
		}
		*l = longName{units: make([]uint16, n*partUnits), next: n, sum: e[13], begun: true}
	}
	if !l.begun || n != l.next || n < 1 || e[13] != l.sum {
		*l = longName{torn: l.torn}
		return
	}
	to := l.units[(n-1)*partUnits:]
	for i, off := range [partUnits]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		to[i] = binary.LittleEndian.Uint16(e[off:])
	}
	l.next--
}

// complete returns the name, if it is whole and belongs to the entry.
func (l *longName) complete(e entry) (string, bool) {
	if !l.begun || l.next != 0 || shortSum(e[:11]) != l.sum {
		return "", false
	}
	units := l.units
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return image.DecodeUTF16(units), len(units) > 0
}

// shortSum is the checksum that ties a long name to its entry.
func shortSum(b []byte) byte {
	var s byte
	for _, c := range b {
		s = s>>1 | s<<7
		s += c
	}
	return s
}

package ext

import "encoding/binary"

// Tags of fast commits that matter for finding out whether there are some.
const (
	fastTail     = 8
	fastHead     = 9
	fastTagSize  = 4
	fastMaxBytes = 64 << 20
)

// fastCommits counts the fast commits that a mount would replay: those that belong to the
// transaction with a sequence number, and are complete.
func (j *journal) fastCommits(sequence uint32) (int, error) {
	le := binary.LittleEndian
	commits, crc := 0, uint32(0)
	for n, seen := j.fastFirst, 0; n < j.fastEnd && seen < fastMaxBytes; n++ {
		p, err := j.block(n)
		if err != nil {
			return commits, err
		}
		seen += len(p)
		for first := n == j.fastFirst; len(p) >= fastTagSize; first = false {
			kind, size := le.Uint16(p), int(le.Uint16(p[2:]))
			if first && kind != fastHead || kind == 0 || kind > fastHead || fastTagSize+size > len(p) {
				return commits, nil
			}
			value := p[fastTagSize:][:size]
			switch kind {
			case fastHead:
				if size < 8 || le.Uint32(value[4:]) != sequence {
					return commits, nil
				}
				crc = chksum(crc, p[:fastTagSize+size])
			case fastTail:
				if size < 8 || le.Uint32(value) != sequence || chksum(crc, p[:fastTagSize+4]) != le.Uint32(value[4:]) {
					return commits, nil
				}
				commits, crc = commits+1, 0
			default:
				crc = chksum(crc, p[:fastTagSize+size])
			}
			p = p[fastTagSize+size:]
		}
	}
	return commits, nil
}

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a number of bytes on the command line: "512MiB", "1G", "4096".
type byteSize int64

// units are the first letters of the powers of 1024.
const units = "KMGT"

// Set reads a size. Units are powers of 1024, with or without "iB" or "B".
func (b *byteSize) Set(s string) error {
	digits := strings.TrimRight(s, "KMGTiBkmgtb")
	unit := strings.ToUpper(strings.TrimSpace(s[len(digits):]))
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no size; write it like 512MiB", s)
	}
	shift := 0
	switch unit {
	case "", "B":
	default:
		i := strings.IndexByte(units, unit[0])
		if rest := unit[1:]; i < 0 || rest != "" && rest != "B" && rest != "IB" {
			return fmt.Errorf("%q is no size; write it like 512MiB", s)
		}
		shift = 10 * (i + 1)
	}
	if n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is too large", s)
	}
	*b = byteSize(n << shift)
	return nil
}

// String returns the size with the largest unit that fits.
func (b *byteSize) String() string {
	n, unit := int64(*b), ""
	for i := 0; i < len(units) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]+"iB"
	}
	return strconv.FormatInt(n, 10) + unit
}

// Type names the type of the value in the help.
func (b *byteSize) Type() string { return "SIZE" }

// sizeText returns a number of bytes for people: "1.4 GiB".
func sizeText(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 1024 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[unit:unit+1] + "iB"
}

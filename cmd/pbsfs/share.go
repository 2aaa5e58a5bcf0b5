package main

import (
	"fmt"
	"strconv"
	"strings"
)

// share is a part of something on the command line, more than nothing: "5%".
type share float64

// Set reads a share.
func (s *share) Set(text string) error {
	number, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return fmt.Errorf("%q is no share; write it like 5%%, up to 100%%", text)
	}
	*s = share(v / 100)
	return nil
}

// String returns the share, "" for none.
func (s *share) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*s)*100, 'f', -1, 64) + "%"
}

// Type names the type of the value in the help.
func (s *share) Type() string { return "SHARE" }

// byteRate is a number of bytes in a second on the command line, at least 1: "50MiB/s".
type byteRate struct{ byteSize }

// Set reads a rate. "/s" may be left out.
func (r *byteRate) Set(text string) error {
	size, _ := strings.CutSuffix(text, "/s")
	if err := r.byteSize.Set(size); err != nil || r.byteSize == 0 {
		return fmt.Errorf("%q is no rate; write it like 50MiB/s", text)
	}
	return nil
}

// String returns the rate, "" for none.
func (r *byteRate) String() string {
	if r.byteSize == 0 {
		return ""
	}
	return r.byteSize.String() + "/s"
}

// Type names the type of the value in the help.
func (r *byteRate) Type() string { return "RATE" }

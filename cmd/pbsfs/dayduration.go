package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// dayDuration is a time on the command line, longer than 0: "30d", "2w", "12h".
type dayDuration time.Duration

// durationUnits are the units of a dayDuration.
var durationUnits = map[byte]time.Duration{'w': 7 * 24 * time.Hour, 'd': 24 * time.Hour, 'h': time.Hour}

// Set reads a time.
func (d *dayDuration) Set(s string) error {
	if s == "" {
		return fmt.Errorf("%q is no time; write it like 30d, 2w or 12h", s)
	}
	unit, ok := durationUnits[s[len(s)-1]]
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	switch {
	case !ok || err != nil || n <= 0:
		return fmt.Errorf("%q is no time; write it like 30d, 2w or 12h", s)
	case n > math.MaxInt64/int64(unit):
		return fmt.Errorf("%q is too long", s)
	}
	*d = dayDuration(time.Duration(n) * unit)
	return nil
}

// String returns the time with the largest unit that fits, "" for none.
func (d *dayDuration) String() string {
	if *d == 0 {
		return ""
	}
	for _, unit := range []byte("wdh") {
		if n := durationUnits[unit]; time.Duration(*d)%n == 0 {
			return strconv.FormatInt(int64(time.Duration(*d)/n), 10) + string(unit)
		}
	}
	return time.Duration(*d).String()
}

// Type names the type of the value in the help.
func (d *dayDuration) Type() string { return "TIME" }

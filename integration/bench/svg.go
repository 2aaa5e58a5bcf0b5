package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of a plot, in pixels.
const (
	plotWidth, plotHeight = 420, 260
	marginLeft, marginTop = 60, 40
	marginEnd             = 60
)

// plot draws one diagram for each series, time and memory over the size, with
// logarithmic axes.
func plot(all []series) []byte {
	var b strings.Builder
	rows := (len(all) + 1) / 2
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", 2*plotWidth, rows*plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, s := range all {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%2*plotWidth, i/2*plotHeight)
		s.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// axis maps values to pixels, logarithmically.
type axis struct{ low, high, from, to float64 }

func newAxis(values []float64, from, to float64) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		v = max(v, 1e-4)
		low, high = min(low, v), max(high, v)
	}
	return axis{math.Floor(math.Log10(low)), math.Ceil(math.Log10(high) + 1e-9), from, to}
}

func (a axis) at(v float64) float64 {
	if a.high == a.low {
		return a.from
	}
	return a.from + (math.Log10(max(v, 1e-4))-a.low)/(a.high-a.low)*(a.to-a.from)
}

func (s series) draw(b *strings.Builder) {
	var xs, secs, mibs []float64
	for _, p := range s.points {
		xs, secs, mibs = append(xs, p.x), append(secs, p.seconds), append(mibs, p.mib)
	}
	const bottom, right = plotHeight - marginTop, plotWidth - marginEnd
	x := newAxis(xs, marginLeft, right)
	fmt.Fprintf(b, `<text x="%d" y="20" font-size="13">%s</text>`+"\n", marginLeft, html.EscapeString(s.title))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="gray"/>`+"\n", marginLeft, marginTop, right-marginLeft, bottom-marginTop)
	for e := x.low; e <= x.high; e++ {
		fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle">%g</text>`+"\n", x.at(math.Pow(10, e)), bottom+14, math.Pow(10, e))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (marginLeft+right)/2, bottom+30, html.EscapeString(s.x))
	line(b, "seconds", "#0b61a4", marginLeft-6, "end", x, newAxis(secs, bottom, marginTop), xs, secs)
	line(b, "MiB", "#b5432a", right+6, "start", x, newAxis(mibs, bottom, marginTop), xs, mibs)
}

// line draws one line and the labels of its axis.
func line(b *strings.Builder, unit, colour string, labels int, anchor string, x, y axis, xs, ys []float64) {
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
	for i := range xs {
		fmt.Fprintf(b, "%.1f,%.1f ", x.at(xs[i]), y.at(ys[i]))
	}
	b.WriteString(`"/>` + "\n")
	for i := range xs {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.at(xs[i]), y.at(ys[i]), colour)
	}
	for e := y.low; e <= y.high; e++ {
		fmt.Fprintf(b, `<text x="%d" y="%.0f" text-anchor="%s" fill="%s">%g</text>`+"\n", labels, y.at(math.Pow(10, e))+4, anchor, colour, math.Pow(10, e))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", labels, marginTop-8, anchor, colour, unit)
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/verify"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
)

// verifyOutput prints what a verification finds.
type verifyOutput interface {
	verify.Reporter
	// summary prints what is left, and the figures. complete says that the run came to
	// its end.
	summary(count *verify.Counts, complete bool) error
}

func (a *app) verifyOutput(o *verifyOptions) verifyOutput {
	if o.json {
		return &verifyJSON{a}
	}
	return &verifyText{a: a, files: o.files, groups: make(map[string]*verifyGroup)}
}

// verifyText collects what was found, and prints it by chunk at the end: a chunk costs
// files of many snapshots.
type verifyText struct {
	a     *app
	files int // shown for each group; 0: all

	groups map[string]*verifyGroup // by chunk, or by snapshot for damage of its files
	order  []*verifyGroup
	told   []string
	kept   int // lines that are kept for costs
	untold int // what was told beyond
}

// verifyGroup is a damaged chunk, or the damaged files of a snapshot.
type verifyGroup struct {
	damage []string
	costs  []string
	last   string // the file of the last cost
	shown  int    // files in costs
	more   int    // files that are not
}

const (
	// maxLines bounds how many lines are kept to be printed.
	maxLines = 200_000
	// shownRanges is how many ranges of one file are shown.
	shownRanges = 4
)

func (v *verifyText) group(key string) *verifyGroup {
	g, ok := v.groups[key]
	if !ok {
		g = &verifyGroup{}
		v.groups[key] = g
		v.order = append(v.order, g)
	}
	return g
}

// Damage keeps a line.
func (v *verifyText) Damage(d verify.Damage) error {
	if d.OfChunk {
		g := v.group(d.Chunk.String())
		g.damage = append(g.damage, fmt.Sprintf("chunk %s: %s", d.Chunk, text.Printable(causeOf(d.Err))))
		return nil
	}
	g := v.group(d.Snapshot.String())
	g.damage = append(g.damage, fmt.Sprintf("%s/%s: %s", d.Snapshot, d.File, text.Printable(causeOf(d.Err))))
	return nil
}

// Cost keeps a line, unless there are many for that damage.
func (v *verifyText) Cost(c verify.Cost) error {
	g := v.groupOf(c)
	path := text.Printable(c.Path)
	if c.Path == g.last && len(c.Ranges) > 0 {
		if n := len(g.costs) - 1; n >= 0 && strings.HasPrefix(g.costs[n], "  "+path+": ") && !strings.HasSuffix(g.costs[n], moreRanges) {
			g.costs[n] += moreRanges
		}
		return nil
	}
	g.last = c.Path
	if v.files > 0 && g.shown == v.files || v.kept == maxLines {
		g.more++
		return nil
	}
	g.shown++
	v.kept++
	g.costs = append(g.costs, "  "+path+": "+costLine(c))
	return nil
}

// moreRanges ends the line of a file that has further ranges.
const moreRanges = " and more"

// groupOf returns the group of a cost. If no damage was reported for it, there is one for
// what is wrong in the snapshot.
func (v *verifyText) groupOf(c verify.Cost) *verifyGroup {
	if c.OfChunk {
		if g, ok := v.groups[c.Chunk.String()]; ok {
			return g
		}
	}
	g := v.group(c.Snapshot.String())
	if len(g.damage) == 0 {
		g.damage = []string{c.Snapshot.String() + ": not everything can be read"}
	}
	return g
}

// Told keeps a line.
func (v *verifyText) Told(t verify.Told) error {
	if t.Note == verify.Verified {
		return nil // the summary counts them
	}
	if len(v.told) == maxLines {
		v.untold++
		return nil
	}
	line := t.Snapshot.String()
	if t.File != "" {
		line += "/" + text.Printable(t.File)
	}
	line += ": " + noteText(t.Note)
	if t.Err != nil && t.Note != verify.Gone {
		line += ": " + text.Printable(causeOf(t.Err))
	}
	v.told = append(v.told, line)
	return nil
}

// costLine says what is lost.
func costLine(c verify.Cost) string {
	switch c.Kind {
	case verify.Ranges:
		return rangeList(c.Ranges)
	case verify.Sealed:
		return rangeList(c.Ranges) + " of the archive, whose key is missing"
	case verify.File:
		return "cannot be opened"
	case verify.Listing:
		return "has entries whose names are not known"
	case verify.Below:
	}
	return "cannot be reached, with everything below"
}

// rangeList shows ranges with their last bytes.
func rangeList(ranges []verify.Range) string {
	var out []string
	for _, r := range ranges[:min(len(ranges), shownRanges)] {
		out = append(out, fmt.Sprintf("%d-%d", r.Off, r.End-1))
	}
	line := "bytes " + strings.Join(out, ", ")
	if more := len(ranges) - shownRanges; more > 0 {
		line += " and " + counted(int64(more), "more range")
	}
	return line
}

func noteText(n verify.Note) string {
	switch n {
	case verify.Gone:
		return "was removed or replaced meanwhile"
	case verify.Busy:
		return "not checked"
	case verify.Verified:
		return "verified by the server"
	case verify.Unlisted:
		return "not listed in the manifest"
	case verify.Unfinished:
		return "not finished: it has no manifest"
	case verify.Unchecked:
	}
	return "could not be checked"
}

// causeOf returns what is wrong, without the place, which the line has already.
func causeOf(err error) string {
	var own *store.Error
	if errors.As(err, &own) {
		err = own.Err
	}
	return err.Error()
}

// summary prints everything.
func (v *verifyText) summary(count *verify.Counts, complete bool) error {
	out := v.a.out()
	for _, g := range v.order {
		for _, line := range append(g.damage, g.costs...) {
			fmt.Fprintln(out, line)
		}
		if g.more > 0 {
			fmt.Fprintf(out, "  and %d more\n", g.more)
		}
	}
	for _, line := range v.told {
		fmt.Fprintln(out, line)
	}
	if v.untold > 0 {
		fmt.Fprintf(out, "and %d more\n", v.untold)
	}
	for _, line := range summaryLines(count, complete) {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// summaryLines are the figures. A figure that is 0 is left out, but for the first ones.
func summaryLines(count *verify.Counts, complete bool) []string {
	took := time.Duration(count.Took.Load())
	verb := "checked"
	if !complete {
		verb = "interrupted: checked"
	}
	lines := []string{fmt.Sprintf("%s %s, %s, %s, %s; read %s in %s, %s/s", verb,
		counted(count.Manifests.Load(), "snapshot"), counted(count.Indexes.Load(), "index", "indexes"), counted(count.Blobs.Load(), "blob"), counted(count.Chunks.Load(), "chunk"),
		sizeText(count.Bytes.Load()), took.Round(time.Second/10), sizeText(count.Rate(took)))}
	add := func(n int64, format string, what string) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf(format, what))
		}
	}
	chunks, blobs := count.SealedChunks.Load(), count.SealedBlobs.Load()
	add(chunks+blobs, "checked in part, for want of a key: %s", counted(chunks, "chunk")+", "+counted(blobs, "blob"))
	n := count.Unsampled.Load()
	add(n, "left out of the sample: %s", counted(n, "chunk"))
	n = count.Verified.Load()
	add(n, "left out, as the server has verified them: %s", counted(n, "snapshot"))
	chunks, files := count.DamagedChunks.Load(), count.DamagedFiles.Load()
	add(chunks+files, "damaged: %s", counted(chunks, "chunk")+", "+counted(files, "file of snapshots", "files of snapshots")+"; it costs "+costText(count))
	if chunks > verify.MaxDamaged {
		lines = append(lines, fmt.Sprintf("what damage costs is known for %d chunks only", verify.MaxDamaged))
	}
	n = count.Unreferenced.Load()
	bad := count.BadUnused.Load()
	add(n+bad, "not referred to: %s", counted(n, "chunk")+", and "+counted(bad, "chunk")+" marked bad; "+sizeText(count.UnreferencedBytes.Load()))
	return lines
}

// verifyJSON prints each result when it is found, as a line of JSON. docs/verify.md says
// what is in it.
type verifyJSON struct{ a *app }

type jsonDamage struct {
	Event    string `json:"event"`
	Chunk    string `json:"chunk,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
	File     string `json:"file,omitempty"`
	Problem  string `json:"problem"`
	Message  string `json:"message"`
}

// Damage prints a line.
func (v *verifyJSON) Damage(d verify.Damage) error {
	line := jsonDamage{Event: "damage", Problem: string(d.Problem), Message: causeOf(d.Err)}
	if d.OfChunk {
		line.Chunk = d.Chunk.String()
	} else {
		line.Snapshot, line.File = d.Snapshot.String(), d.File.String()
	}
	return v.a.json(line)
}

type jsonCost struct {
	Event    string     `json:"event"`
	Chunk    string     `json:"chunk,omitempty"`
	Snapshot string     `json:"snapshot"`
	Path     string     `json:"path"`
	PathRaw  []byte     `json:"path_base64,omitempty"`
	Kind     string     `json:"kind"`
	Ranges   [][2]int64 `json:"ranges,omitempty"`
	Message  string     `json:"message,omitempty"`
}

// Cost prints a line.
func (v *verifyJSON) Cost(c verify.Cost) error {
	line := jsonCost{Event: "cost", Snapshot: c.Snapshot.String(), Path: c.Path, Kind: string(c.Kind)}
	if !utf8.ValidString(c.Path) {
		line.PathRaw = []byte(c.Path)
	}
	if c.OfChunk {
		line.Chunk = c.Chunk.String()
	}
	for _, r := range c.Ranges {
		line.Ranges = append(line.Ranges, [2]int64{r.Off, r.End})
	}
	if c.Err != nil {
		line.Message = c.Err.Error()
	}
	return v.a.json(line)
}

type jsonNote struct {
	Event    string `json:"event"`
	Note     string `json:"note"`
	Snapshot string `json:"snapshot"`
	File     string `json:"file,omitempty"`
	Message  string `json:"message,omitempty"`
}

// Told prints a line.
func (v *verifyJSON) Told(t verify.Told) error {
	line := jsonNote{Event: "note", Note: string(t.Note), Snapshot: t.Snapshot.String(), File: t.File}
	if t.Err != nil {
		line.Message = t.Err.Error()
	}
	return v.a.json(line)
}

type jsonVerified struct {
	Event             string  `json:"event"`
	Complete          bool    `json:"complete"`
	Seconds           float64 `json:"seconds"`
	Snapshots         int64   `json:"snapshots"`
	Indexes           int64   `json:"indexes"`
	Blobs             int64   `json:"blobs"`
	Chunks            int64   `json:"chunks"`
	Bytes             int64   `json:"bytes"`
	SealedChunks      int64   `json:"sealed_chunks"`
	SealedBlobs       int64   `json:"sealed_blobs"`
	Unsampled         int64   `json:"unsampled_chunks"`
	DamagedChunks     int64   `json:"damaged_chunks"`
	DamagedFiles      int64   `json:"damaged_files"`
	CostFiles         int64   `json:"cost_files"`
	CostDirectories   int64   `json:"cost_directories"`
	Gone              int64   `json:"gone"`
	Busy              int64   `json:"busy"`
	Verified          int64   `json:"verified"`
	Unlisted          int64   `json:"unlisted"`
	Unfinished        int64   `json:"unfinished"`
	Unchecked         int64   `json:"unchecked"`
	Unreferenced      int64   `json:"unreferenced_chunks"`
	BadUnreferenced   int64   `json:"unreferenced_bad"`
	UnreferencedBytes int64   `json:"unreferenced_bytes"`
}

// summary prints the last line.
func (v *verifyJSON) summary(c *verify.Counts, complete bool) error {
	return v.a.json(jsonVerified{
		Event: "summary", Complete: complete, Seconds: time.Duration(c.Took.Load()).Seconds(),
		Snapshots: c.Manifests.Load(), Indexes: c.Indexes.Load(), Blobs: c.Blobs.Load(), Chunks: c.Chunks.Load(), Bytes: c.Bytes.Load(),
		SealedChunks: c.SealedChunks.Load(), SealedBlobs: c.SealedBlobs.Load(), Unsampled: c.Unsampled.Load(),
		DamagedChunks: c.DamagedChunks.Load(), DamagedFiles: c.DamagedFiles.Load(), CostFiles: c.HitFiles.Load(), CostDirectories: c.HitDirs.Load(),
		Gone: c.Gone.Load(), Busy: c.Busy.Load(), Verified: c.Verified.Load(), Unlisted: c.Unlisted.Load(), Unfinished: c.Unfinished.Load(), Unchecked: c.Unchecked.Load(),
		Unreferenced: c.Unreferenced.Load(), BadUnreferenced: c.BadUnused.Load(), UnreferencedBytes: c.UnreferencedBytes.Load(),
	})
}

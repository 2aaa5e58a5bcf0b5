package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/store"
)

// Datastore is what is known of a datastore at one moment.
type Datastore struct {
	Name       string
	Statistics store.Statistics
	// Operations are those of this process.
	Operations opsfile.Counts
	Mode       cfg.ModeType
	// There says that the datastore was there at the last look.
	There bool
	// Holders are the files and directories that are open, or the downloads under way.
	Holders int
	// Locked are the snapshots that this process keeps from being removed.
	Locked int
	// Mount is about its mount, nil if there is none.
	Mount *Mount
}

// Mount is what is known of a mount.
type Mount struct {
	Mountpoint       string
	Reads, ReadBytes uint64
	Inodes           int
}

// modes are the values of the label "mode". A mode that this pbsfs does not know is
// "unknown".
var modes = []cfg.ModeType{cfg.None, cfg.ReadOnly, cfg.Offline, cfg.Delete, cfg.Unmount, cfg.S3Refresh, cfg.Unlisted, cfg.Unknown}

// collector shows datastores, and the errors about them.
type collector struct {
	look   func() []Datastore
	errors *Errors
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pbsfs_"+name, help, append([]string{"datastore"}, labels...), nil)
}

var (
	descThere      = desc("datastore_up", "Whether the datastore was there at the last look.")
	descMode       = desc("maintenance_mode", "The maintenance mode that was last seen: 1 for that, 0 for the others.", "mode")
	descOperations = desc("active_operations", "Operations of this process that are active, as the server counts them.", "operation")
	descHolders    = desc("holders", "Files and directories that are open, or downloads under way.")
	descLocked     = desc("locked_snapshots", "Snapshots that this process keeps from being pruned.")

	descCache    = desc("cache_requests_total", "Questions to a cache, by whether it had the answer.", "cache", "result")
	descTimes    = desc("chunk_load_duration_seconds", "How long it took to read, verify and decode a chunk.")
	descFailed   = desc("chunk_load_failures_total", "Chunks that could not be loaded.")
	descVerified = desc("verified_bytes_total", "Bytes of chunks that were decoded and found right.")
	descAhead    = desc("readahead_chunks_total", "Chunks that were loaded before they were asked for, by whether they were asked for later.", "result")

	descReads     = desc("reads_total", "Reads of files that were answered with data.")
	descReadBytes = desc("read_bytes_total", "Bytes of files that were read.")
	descInodes    = desc("inodes", "Files and directories that the kernel knows.")
	descMount     = desc("mount_info", "The mount of the datastore; the value is always 1.", "mountpoint")
)

// Describe implements [prometheus.Collector].
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descThere, descMode, descOperations, descHolders, descLocked,
		descCache, descTimes, descFailed, descVerified, descAhead,
		descReads, descReadBytes, descInodes, descMount,
	} {
		to <- d
	}
	c.errors.counts.Describe(to)
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, d := range c.look() {
		d.Name = label(d.Name)
		c.errors.begin(d.Name)
		d.state(to)
		d.counts(to)
		d.mount(to)
	}
	c.errors.counts.Collect(to)
}

// label makes a value of a label of a name, which may be no UTF-8 if it was made of a path.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

func (d Datastore) state(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, append([]string{d.Name}, labels...)...)
	}
	gauge(descThere, number(d.There))
	known := false
	for _, m := range modes {
		now := m == d.Mode || m == cfg.Unknown && !known
		known = known || now
		gauge(descMode, number(now), modeName(m))
	}
	gauge(descOperations, float64(d.Operations.Read), "read")
	gauge(descOperations, float64(d.Operations.Write), "write")
	gauge(descHolders, float64(d.Holders))
	gauge(descLocked, float64(d.Locked))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func modeName(m cfg.ModeType) string {
	if m == cfg.None {
		return "none"
	}
	return string(m)
}

func (d Datastore) counts(to chan<- prometheus.Metric) {
	s := d.Statistics
	counter := func(desc *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), append([]string{d.Name}, labels...)...)
	}
	for _, c := range []struct {
		name string
		store.Hits
	}{{"chunks", s.Chunks}, {"metadata", s.Metadata}, {"metadata_files", s.MetadataFiles}, {"copies", s.Copies}} {
		counter(descCache, c.Hits.Hits, c.name, "hit")
		counter(descCache, c.Misses, c.name, "miss")
	}
	counter(descFailed, s.FailedLoads)
	counter(descVerified, s.Verified)
	counter(descAhead, s.AheadUsed, "used")
	counter(descAhead, s.AheadWasted, "wasted")
	d.times(to)
}

// times shows how long loads took. A class of Prometheus' holds those below it as well.
func (d Datastore) times(to chan<- prometheus.Metric) {
	t := d.Statistics.LoadTimes
	var all uint64
	buckets := make(map[float64]uint64, len(t.Bounds))
	for i, n := range t.Counts {
		if all += n; i < len(t.Bounds) {
			buckets[t.Bounds[i].Seconds()] = all
		}
	}
	to <- prometheus.MustNewConstHistogram(descTimes, all, t.Sum.Seconds(), buckets, d.Name)
}

func (d Datastore) mount(to chan<- prometheus.Metric) {
	m := d.Mount
	if m == nil {
		return
	}
	to <- prometheus.MustNewConstMetric(descReads, prometheus.CounterValue, float64(m.Reads), d.Name)
	to <- prometheus.MustNewConstMetric(descReadBytes, prometheus.CounterValue, float64(m.ReadBytes), d.Name)
	to <- prometheus.MustNewConstMetric(descInodes, prometheus.GaugeValue, float64(m.Inodes), d.Name)
	to <- prometheus.MustNewConstMetric(descMount, prometheus.GaugeValue, 1, d.Name, label(m.Mountpoint))
}

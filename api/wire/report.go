package wire

import (
	"encoding/json"
	"time"
)

// Report is one page of a report of the archive.
type Report[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
	// Since (inclusive) and Until (exclusive) are what it covers.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// AsOf is the time up to which what happened is counted; absent while
	// nothing is.
	AsOf time.Time `json:"as_of,omitzero"`
}

// ReportedChange is one committed change of configuration, and of whatever else
// is not the coming and going of proxies.
type ReportedChange struct {
	Seq   uint64    `json:"seq"`
	Index uint64    `json:"index"`
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Kind  string    `json:"kind"`
	Fleet string    `json:"fleet"`
	// Changes is how many resources changed, Changed the first 100 of them.
	Changes int      `json:"changes"`
	Changed []Change `json:"changed"`
	// Data is the rest of the event's data.
	Data json.RawMessage `json:"data"`
}

// ReportedConvergence is how a revision came to the proxies that were connected
// when it did. Counted are streams; a proxy with aggregated discovery has one.
type ReportedConvergence struct {
	Revision uint64    `json:"revision"`
	Index    uint64    `json:"index"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Fleet    string    `json:"fleet"`
	Message  string    `json:"message"`
	Changes  int       `json:"changes"`
	// Expected is the sum of the others.
	Expected int `json:"expected"`
	Synced   int `json:"synced"`
	Rejected int `json:"rejected"`
	Departed int `json:"departed"`
	Pending  int `json:"pending"`
	// Converged: all that did not leave have it.
	Converged bool `json:"converged"`
	// Milliseconds from the commit until streams were synced; the percentiles are
	// rounded up by a sixteenth at most.
	P50MS int64 `json:"p50_ms"`
	P99MS int64 `json:"p99_ms"`
	MaxMS int64 `json:"max_ms"`
	// Slowest are those that took longest, Waiting some of the pending.
	Slowest []SlowProxy `json:"slowest"`
	Waiting []string    `json:"waiting"`
}

// SlowProxy is a proxy that took long.
type SlowProxy struct {
	Proxy   string `json:"proxy"`
	Node    string `json:"node"`
	AfterMS int64  `json:"after_ms"`
}

// ReportedRejections are the rejections of one text, by one fleet and type.
type ReportedRejections struct {
	Fleet  string `json:"fleet"`
	Type   string `json:"type"`
	Detail string `json:"detail"`
	// Count of rejections by how many Proxies; Proxy is one of those.
	Count         int       `json:"count"`
	Proxies       int       `json:"proxies"`
	Proxy         string    `json:"proxy"`
	FirstAt       time.Time `json:"first_at"`
	LastAt        time.Time `json:"last_at"`
	FirstRevision uint64    `json:"first_revision"`
	LastRevision  uint64    `json:"last_revision"`
}

// ReportedProxies are the proxies of one build over one period, on average
// over its time.
type ReportedProxies struct {
	// From and To bound what of the period is counted.
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	Build        string    `json:"build"`
	Connected    float64   `json:"connected"`
	Disconnected float64   `json:"disconnected"`
}

// ReportedMetric is what the proxies of a fleet, or one of them, have measured of
// a metric over an interval.
type ReportedMetric struct {
	// From and To bound what of the interval is reported.
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Fleet string    `json:"fleet"`
	// Proxy is empty in rows of fleets.
	Proxy  string            `json:"proxy,omitempty"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	// Kind is "counter", "gauge" or "histogram".
	Kind string `json:"kind"`
	// Proxies that have measured it.
	Proxies int `json:"proxies"`
	// Count of samples, of a histogram's observations.
	Count int64 `json:"count"`
	// Value is how much a counter went up; the sum, over the proxies, of a gauge's
	// averages; the average observation of a histogram.
	Value float64 `json:"value"`
	// Min and Max are those of the samples of a gauge.
	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`
	// Percentiles of a histogram, estimated within its buckets.
	P50 *float64 `json:"p50,omitempty"`
	P90 *float64 `json:"p90,omitempty"`
	P99 *float64 `json:"p99,omitempty"`
}

// PerSecond is the rate of a counter.
func (m ReportedMetric) PerSecond() float64 {
	if length := m.To.Sub(m.From).Seconds(); length > 0 {
		return m.Value / length
	}
	return 0
}

// ReportedAvailability is a fleet's month.
type ReportedAvailability struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Fleet string    `json:"fleet"`
	// Availability is the share of the proxies' time in which they were
	// connected, from 0 to 1; Connected and Disconnected are the averages that
	// it is of.
	Availability float64 `json:"availability"`
	Connected    float64 `json:"connected"`
	Disconnected float64 `json:"disconnected"`
}

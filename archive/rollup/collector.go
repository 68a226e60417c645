package rollup

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Collector opens the streams of proxies and writes what they come to.
type Collector struct {
	cfg     Config
	log     *slog.Logger
	cluster func() string
	allow   *allowList
	metrics *metrics
	queue   *queue
	series  atomic.Int64 // of all streams

	mu      sync.Mutex
	proxies map[proxyKey]*proxy
}

// proxyKey names a proxy, and the fleet that it says to be of.
type proxyKey struct{ tenant, fleet, id string }

// proxy is what the streams of one have in common.
type proxy struct {
	proxyKey
	streams int // guarded by Collector.mu
	series  atomic.Int64
}

// New returns a collector that has not started. The database need not be up.
func New(cfg Config, deps Deps) (*Collector, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	c := &Collector{
		cfg: cfg, log: deps.Log, cluster: deps.Cluster, allow: newAllowList(cfg.Allow), proxies: map[proxyKey]*proxy{},
	}
	c.metrics = newMetrics(deps.Registry, c)
	c.queue = newQueue(cfg.QueueRows, c.metrics)
	return c, nil
}

// Open begins a stream of a proxy, which is to be closed. An error says that it
// has too many already.
func (c *Collector) Open(tenant, fleet, id string) (*Stream, error) {
	key := proxyKey{tenant, fleet, id}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.proxies[key]
	if p == nil {
		p = &proxy{proxyKey: key}
		c.proxies[key] = p
	}
	if p.streams >= c.cfg.MaxStreams {
		return nil, fmt.Errorf("the proxy has %d streams of metrics, more are not taken", p.streams)
	}
	p.streams++
	c.metrics.streams.Inc()
	return &Stream{collector: c, proxy: p, series: map[string]*series{}}, nil
}

// closed ends a stream.
func (c *Collector) closed(p *proxy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.streams--; p.streams == 0 {
		delete(c.proxies, p.proxyKey)
	}
	c.metrics.streams.Dec()
}

// admit reports whether there is room for one more series, and takes it.
func (c *Collector) admit(p *proxy) bool {
	if p.series.Add(1) <= int64(c.cfg.ProxySeries) {
		if c.series.Add(1) <= int64(c.cfg.NodeSeries) {
			return true
		}
		c.series.Add(-1)
	}
	p.series.Add(-1)
	return false
}

// dismiss gives a series' room back.
func (c *Collector) dismiss(p *proxy) {
	p.series.Add(-1)
	c.series.Add(-1)
}

package cluster

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the node counts by itself; what Raft knows is read when
// somebody asks, see collector.
type metrics struct {
	applySeconds    prometheus.Histogram
	snapshotSeconds prometheus.Histogram
	entryCommands   prometheus.Histogram
	commitSeconds   prometheus.Histogram
	proposals       *prometheus.CounterVec
	changes         *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		applySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_raft_apply_seconds", Help: "Time to apply a batch of entries and publish the state.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10),
		}),
		snapshotSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_raft_snapshot_seconds", Help: "Time to write a snapshot to disk.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 4, 10),
		}),
		entryCommands: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_raft_entry_commands", Help: "Commands that went into one log entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_raft_commit_seconds", Help: "Time from handing an entry to Raft until it is applied on the leader.",
			Buckets: prometheus.ExponentialBuckets(0.25e-3, 2, 14),
		}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecp_cluster_proposals_total", Help: "Writes proposed on this node, by what came of them.",
		}, []string{"outcome"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecp_cluster_membership_changes_total", Help: "Changes of the Raft configuration made on this node as leader.",
		}, []string{"change"}),
	}
}

// collector shows Raft's and the membership's present state.
type collector struct{ n *Node }

// The descriptions never change.
type descs struct {
	leader, voter, state, term, commit, applied, lastContact, writes, writeSeconds, full, nodes, gossip, ready, readOnly, level, skew *prometheus.Desc
}

func newDescs() descs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descs{
		leader:       d("ecp_raft_leader", "1 on the leader, 0 elsewhere."),
		voter:        d("ecp_raft_voter", "1 on nodes that vote, 0 elsewhere."),
		state:        d("ecp_raft_state", "1 for the state that the node is in.", "state"),
		term:         d("ecp_raft_term", "Present term."),
		commit:       d("ecp_raft_commit_index", "Highest log index known to be committed."),
		applied:      d("ecp_raft_applied_index", "Highest log index applied."),
		lastContact:  d("ecp_raft_last_contact_seconds", "Time since the leader was last heard of; 0 on the leader."),
		writes:       d("ecp_raft_store_writes_total", "Writes to the Raft stores."),
		writeSeconds: d("ecp_raft_store_write_seconds_total", "Time spent in writes to the Raft stores."),
		full:         d("ecp_raft_store_full", "1 while the disk of the Raft log has no room for writes, just its reserve."),
		nodes:        d("ecp_cluster_nodes", "Servers in the Raft configuration.", "role"),
		gossip:       d("ecp_cluster_gossip_members", "Nodes that gossip believes to be alive."),
		ready:        d("ecp_cluster_ready", "1 once the node has caught up after its start."),
		readOnly:     d("ecp_read_only", "1 while the cluster refuses what tenants write."),
		level:        d("ecp_feature_level", "Feature level of the state."),
		skew:         d("ecp_cluster_clock_skew_seconds", "The leader's clock less the median of the other nodes'; 0 elsewhere."),
	}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	d := &c.n.descs
	for _, x := range []*prometheus.Desc{
		d.leader, d.voter, d.state, d.term, d.commit, d.applied, d.lastContact, d.writes, d.writeSeconds, d.full, d.nodes, d.gossip, d.ready, d.readOnly,
		d.level, d.skew,
	} {
		ch <- x
	}
	m := c.n.metrics
	for _, x := range []prometheus.Collector{m.applySeconds, m.snapshotSeconds, m.entryCommands, m.commitSeconds, m.proposals, m.changes} {
		x.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := c.n.metrics
	for _, x := range []prometheus.Collector{m.applySeconds, m.snapshotSeconds, m.entryCommands, m.commitSeconds, m.proposals, m.changes} {
		x.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	d := &c.n.descs
	gauge(d.ready, one(c.n.Ready()))
	gauge(d.level, float64(c.n.State().FeatureLevel()))
	gauge(d.readOnly, one(c.n.State().ReadOnly() != nil))
	rt := c.n.rt.Load()
	if rt == nil {
		return
	}
	r := rt.raft
	now := r.State()
	for _, s := range []raft.RaftState{raft.Follower, raft.Candidate, raft.Leader, raft.Shutdown} {
		gauge(d.state, one(now == s), s.String())
	}
	gauge(d.leader, one(now == raft.Leader))
	var skew time.Duration
	if now == raft.Leader { // what was measured in an earlier term is old
		skew = time.Duration(c.n.skew.Load())
	}
	gauge(d.skew, skew.Seconds())
	gauge(d.term, float64(r.CurrentTerm()))
	gauge(d.commit, float64(r.CommitIndex()))
	gauge(d.applied, float64(r.AppliedIndex()))
	var contact time.Duration
	if last := r.LastContact(); now != raft.Leader && !last.IsZero() {
		contact = time.Since(last)
	}
	gauge(d.lastContact, contact.Seconds())
	count, total := rt.stores.Watch.Written()
	ch <- prometheus.MustNewConstMetric(d.writes, prometheus.CounterValue, float64(count))
	ch <- prometheus.MustNewConstMetric(d.writeSeconds, prometheus.CounterValue, total.Seconds())
	gauge(d.full, one(rt.stores.Short()))
	var voters, others float64
	votes := false
	for _, s := range rt.servers() {
		if s.Suffrage != raft.Voter {
			others++
			continue
		}
		voters++
		votes = votes || string(s.ID) == c.n.ident.ServerID()
	}
	gauge(d.voter, one(votes))
	gauge(d.nodes, voters, "voter")
	gauge(d.nodes, others, "nonvoter")
	gauge(d.gossip, float64(len(rt.gossip.Members())))
}

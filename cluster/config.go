package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Config of a Node. Zero timers stand for their defaults.
type Config struct {
	// NodeID outlives restarts, new disks and new addresses.
	NodeID  string
	DataDir string
	// Bind is the IP to listen on; Advertise the DNS name or IP, without
	// port, that the other nodes reach.
	Bind       string
	Advertise  string
	RaftPort   int
	GossipPort int

	// Join lists host[:gossip-port]; each may be a name with many addresses.
	Join []string
	// BootstrapExpect is the number of nodes that make a new cluster. 0:
	// never make one, join only.
	BootstrapExpect int
	// InitialMembers are the ids of the nodes that alone may make a new
	// cluster, all of them together. Empty: any BootstrapExpect nodes.
	InitialMembers []string
	// Restore is a backup, of the cluster FromCluster, that a new cluster goes on
	// from; empty: none. One initial member has it.
	Restore     string
	FromCluster string
	// NonVoter keeps the node from ever becoming a voter.
	NonVoter bool
	Zone     string
	// StaleAfter is how long after its start a node without a majority waits
	// until it is Stale; 0: it waits for ever.
	StaleAfter time.Duration
	// FinalizeAfter is for how long all servers must have supported a higher
	// feature level until the leader raises it by itself; 0: never.
	FinalizeAfter time.Duration
	// ReplaceAfter is how long a voter is silent until another node votes in
	// its place; 0: it is never replaced.
	ReplaceAfter time.Duration
	// ForgetAfter is how long a non-voter is silent until it is removed; 0:
	// it never is.
	ForgetAfter time.Duration

	// APIAddress, XDSAddress and Build are shown in reports.
	APIAddress string
	XDSAddress string
	Build      string

	// LogAhead is how many bytes of the log's file are written out before it is
	// used; 0: none.
	LogAhead int64

	Timers
}

// Timers are the knobs of Raft and of the node's patience.
type Timers struct {
	Heartbeat time.Duration // a follower without the leader for so long stands for election
	Election  time.Duration // a candidate waits so long for votes
	Lease     time.Duration // a leader without a majority for so long steps down
	Commit    time.Duration // at most twice this until followers hear of a commit

	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64

	// Failover is how long a write or strong read waits for a leader.
	Failover time.Duration
	// StoreQuiet is how long a store's write may hang before the node stops
	// talking to the others; after StoreFatal the node gives up.
	StoreQuiet time.Duration
	StoreFatal time.Duration
	// MaxSkew is how far the leader's clock may be off before it refuses to
	// stamp entries.
	MaxSkew time.Duration
	// Membership is how often the leader looks after the membership.
	Membership time.Duration
}

func (t *Timers) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Heartbeat, 450*time.Millisecond)
	def(&t.Election, 450*time.Millisecond)
	def(&t.Lease, 400*time.Millisecond)
	def(&t.Commit, 3*time.Millisecond)
	def(&t.SnapshotInterval, 30*time.Second)
	if t.SnapshotThreshold == 0 {
		t.SnapshotThreshold = 16384
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 8192
	}
	def(&t.Failover, 2*time.Second)
	def(&t.StoreQuiet, 3*time.Second)
	def(&t.StoreFatal, 30*time.Second)
	def(&t.MaxSkew, 10*time.Minute)
	def(&t.Membership, 500*time.Millisecond)
}

// An Observer learns of every change of the state, on Raft's goroutine: it
// must not block. Nil events: everything may have changed.
type Observer interface {
	Applied(st *fsm.State, events []*fsmpb.Event)
}

// Answerer answers another node's query about what is not replicated.
type Answerer func(ctx context.Context, q *fsmpb.Query) (*fsmpb.Answer, error)

// Deps are what a Node is given. Log is required.
type Deps struct {
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Observers []Observer
	Answerer  Answerer
	// Streams returns the number of open xDS streams.
	Streams func() int
	// Draining reports whether the node hands its xDS streams over. May be nil.
	Draining func() bool
	// SetDraining begins or ends that. May be nil.
	SetDraining func(on bool, within time.Duration)
	// Backup tells how the scheduled backups do, nil where that is not known.
	// May be nil.
	Backup func() *fsmpb.BackupReport
	// Archive tells how the archive's writer does, nil without one. May be nil.
	Archive func() *fsmpb.ArchiveReport
	// WrapListener and Dial secure the Raft port; nil means plain TCP.
	WrapListener func(net.Listener) net.Listener
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	// WrapGossip is put around gossip's network, when set.
	WrapGossip func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport

	// slowLog makes a test's disk slow.
	slowLog func(raft.LogStore) raft.LogStore
	// around is what a simulation puts around the node.
	around world
	// reserve, when not 0, is how many bytes the log keeps for a full disk.
	reserve int
	// free tells how much of a test's disk is free.
	free func(dir string) (bytes uint64, ok bool)
	// now is the clock that entries are stamped by.
	now func() time.Time
	// supports makes a test's binary an older one: the highest feature level
	// that it knows.
	supports uint32
}

func (d *Deps) setDefaults() {
	if d.now == nil {
		d.now = time.Now
	}
	if d.Streams == nil {
		d.Streams = func() int { return 0 }
	}
	if d.supports == 0 {
		d.supports = fsm.SupportedLevel
	}
	if d.Draining == nil {
		d.Draining = func() bool { return false }
	}
	if d.Backup == nil {
		d.Backup = func() *fsmpb.BackupReport { return nil }
	}
	if d.Archive == nil {
		d.Archive = func() *fsmpb.ArchiveReport { return nil }
	}
	d.around.setDefaults()
}

var nodeIDs = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?$`)

// Validate returns every mistake.
func (c *Config) Validate() error {
	var errs []error
	if !nodeIDs.MatchString(c.NodeID) {
		errs = append(errs, fmt.Errorf("node id %q: 1 to 63 letters, digits, '-', '.' or '_', with a letter or digit at both ends", c.NodeID))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("no data directory"))
	}
	if net.ParseIP(c.Bind) == nil {
		errs = append(errs, fmt.Errorf("bind address %q is not an IP", c.Bind))
	}
	if c.Advertise == "" {
		errs = append(errs, errors.New("no advertised name or address"))
	}
	if ip := net.ParseIP(c.Advertise); ip != nil && ip.IsUnspecified() {
		errs = append(errs, fmt.Errorf("advertised address %s reaches nobody", c.Advertise))
	}
	if len(c.Advertise) > 253 {
		errs = append(errs, errors.New("the advertised name is longer than 253 bytes"))
	}
	if len(c.Zone) > 63 {
		errs = append(errs, errors.New("the zone is longer than 63 bytes"))
	}
	for name, port := range map[string]int{"raft": c.RaftPort, "gossip": c.GossipPort} {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s port %d", name, port))
		}
	}
	if c.StaleAfter < 0 {
		errs = append(errs, fmt.Errorf("stale-after %s", c.StaleAfter))
	}
	if c.FinalizeAfter < 0 {
		errs = append(errs, fmt.Errorf("finalize-after %s", c.FinalizeAfter))
	}
	if c.ReplaceAfter < 0 {
		errs = append(errs, fmt.Errorf("replace-after %s", c.ReplaceAfter))
	}
	if c.ForgetAfter < 0 {
		errs = append(errs, fmt.Errorf("forget-after %s", c.ForgetAfter))
	}
	if c.BootstrapExpect < 0 {
		errs = append(errs, fmt.Errorf("bootstrap-expect %d", c.BootstrapExpect))
	}
	if n := len(c.InitialMembers); n > 0 && c.BootstrapExpect > 0 && n != c.BootstrapExpect {
		errs = append(errs, fmt.Errorf("%d initial members, but bootstrap-expect is %d", n, c.BootstrapExpect))
	}
	if c.BootstrapExpect > 1 && len(c.Join) == 0 {
		errs = append(errs, fmt.Errorf("bootstrap-expect is %d, but there is nobody to join", c.BootstrapExpect))
	}
	if c.NonVoter && c.BootstrapExpect == 1 && len(c.Join) == 0 {
		errs = append(errs, errors.New("the only node of a cluster must be a voter"))
	}
	return errors.Join(errs...)
}

// address returns the advertised host and Raft port.
func (c *Config) address() string {
	return net.JoinHostPort(c.Advertise, strconv.Itoa(c.RaftPort))
}

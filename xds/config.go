package xds

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Config is what an operator may decide. Zero values mean the defaults.
type Config struct {
	// NodeID and NodeStart (nanoseconds since the Unix epoch) name this
	// process in the streams that it registers.
	NodeID    string
	NodeStart int64

	// DefaultTenant owns proxies that name none. Default "default".
	DefaultTenant string

	// GateTimeout is how long a step of an ordered change waits for the
	// acknowledgement of the one before. Default 5 s.
	GateTimeout time.Duration

	// WarmingGrace is how long an aggregated stream may ask for endpoints and
	// not for clusters before it is taken for one of a warming Envoy, which
	// needs its endpoints again. Default 1 s.
	WarmingGrace time.Duration

	// ReportInterval is the time between batches of registrations. Default
	// 100 ms.
	ReportInterval time.Duration

	// SummaryInterval is how often it is looked how far new revisions have come.
	// Default 1 s.
	SummaryInterval time.Duration

	// ProxyGrace is how long a proxy without a stream is not yet reported as
	// disconnected. Default 10 s; negative: at once.
	ProxyGrace time.Duration

	// MaxRecvMsgSize bounds one request. Default 64 MiB: a reconnect in the
	// delta protocol lists every name and version.
	MaxRecvMsgSize int

	// MaxNames bounds the names in one request and in one subscription.
	// Default 100,000.
	MaxNames int

	// DecodeBudget bounds the bytes of large requests that are decoded at a
	// time. Default 64 MiB.
	DecodeBudget int

	// Greeted bounds the new connections that have not sent a request yet; the
	// others wait. Default 16 x GOMAXPROCS.
	Greeted int

	// Admitted bounds the new streams that are taken in at a time; the others
	// wait. Default GOMAXPROCS.
	Admitted int

	// Balance has streams moved to other nodes while this one has more than its
	// share.
	Balance bool

	// SettledAfter is the age of streams that may be moved. Default 10 s.
	SettledAfter time.Duration

	// DrainTime is how long Drain takes to end the streams, at most. Default 10 s.
	DrainTime time.Duration

	// HelloTimeout is how long a stream may take to say who it is. Default 30 s.
	HelloTimeout time.Duration
}

func (c Config) withDefaults() Config {
	def(&c.DefaultTenant, "default")
	def(&c.GateTimeout, 5*time.Second)
	def(&c.WarmingGrace, time.Second)
	def(&c.ReportInterval, 100*time.Millisecond)
	def(&c.SummaryInterval, time.Second)
	def(&c.ProxyGrace, 10*time.Second)
	def(&c.MaxRecvMsgSize, 64<<20)
	def(&c.MaxNames, 100_000)
	def(&c.DecodeBudget, 64<<20)
	def(&c.Greeted, 16*runtime.GOMAXPROCS(0))
	def(&c.Admitted, runtime.GOMAXPROCS(0))
	def(&c.SettledAfter, 10*time.Second)
	def(&c.DrainTime, 10*time.Second)
	def(&c.HelloTimeout, 30*time.Second)
	return c
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Deps are the parts that a Server works with.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Cluster takes the commands that register proxies. Nil: none are made.
	Cluster Proposer
	// Secrets opens secrets. Nil: there is no key, none is sent.
	Secrets Opener
	// Metrics takes what proxies measure. Nil: they are told that nobody does.
	Metrics Metrics
	// Loads returns what the nodes have to do, this one included. Needed when
	// streams are balanced.
	Loads func() []Load
	// Identify decides whose stream it is. Nil: the node's own word, see
	// contract.md.
	Identify func(context.Context, *corev3.Node) (Identity, error)
	// Gather asks all nodes and returns the answers and the nodes that failed.
	// Nil: only this one is asked.
	Gather func(context.Context, *fsmpb.Query) ([]*fsmpb.Answer, map[string]error)
}

// Proposer is what this package needs from the cluster.
type Proposer interface {
	Propose(context.Context, *fsmpb.Command) (*fsmpb.Result, error)
}

// Identity says which proxy a stream belongs to.
type Identity struct {
	Tenant, Fleet, Proxy string
}

package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// Config of a Gossip.
type Config struct {
	// Bind is the IP to listen on, Port the port for TCP and UDP.
	Bind string
	Port int
	// Advertise is the DNS name or IP by which others reach the node. It is
	// looked up once, at the start: memberlist wants an IP.
	Advertise string
	// Join lists host or host:port; names may have many addresses.
	Join []string
	// Meta returns what to tell about the node now.
	Meta func() *clusterpb.Meta
	Log  *slog.Logger
	// WrapTransport is put around the network, when set.
	WrapTransport func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

const (
	// rejoinEvery is how often names are looked up while someone is missing.
	rejoinEvery = 500 * time.Millisecond
	// lookEvery is how often they are looked up at other times.
	lookEvery = 10 * time.Second
	// tellEvery is how often changed metadata is spread.
	tellEvery = time.Second
	// dialTimeout bounds one attempt to join an address.
	dialTimeout = 2 * time.Second
)

// Gossip is this node's part in the member list.
type Gossip struct {
	cfg Config

	// mu is taken by callbacks, under memberlist's own lock: nothing of
	// memberlist is called while it is held.
	mu   sync.Mutex
	list *memberlist.Memberlist
	self string // IP and port
	// alive is kept by memberlist's events: the nodes that it returns when
	// asked are modified by it meanwhile.
	alive map[string]Member // by member name
	told  []byte
}

// New makes a Gossip; Start begins it.
func New(cfg Config) *Gossip { return &Gossip{cfg: cfg, alive: map[string]Member{}} }

// Start listens. The advertised name is looked up until it is known.
func (g *Gossip) Start(ctx context.Context) error {
	ip, err := g.lookupSelf(ctx)
	if err != nil {
		return err
	}
	meta := g.cfg.Meta()
	conf := memberlist.DefaultLANConfig()
	conf.Name = fmt.Sprintf("%s~%d", meta.ServerId, meta.Start)
	conf.BindAddr, conf.BindPort = g.cfg.Bind, g.cfg.Port
	conf.AdvertiseAddr, conf.AdvertisePort = ip, g.cfg.Port
	conf.LogOutput = &logWriter{log: g.cfg.Log}
	conf.Delegate, conf.Alive, conf.Events = (*delegate)(g), (*delegate)(g), (*delegate)(g)
	conf.ProbeInterval, conf.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
	conf.TCPTimeout = dialTimeout
	conf.PushPullInterval = 15 * time.Second
	conf.GossipInterval = 100 * time.Millisecond
	conf.MsgpackUseNewTimeFormat = true
	if err := g.transport(conf); err != nil {
		return err
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	self := list.LocalNode().Address()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list, g.self = list, self
	return nil
}

func (g *Gossip) transport(conf *memberlist.Config) error {
	if g.cfg.WrapTransport == nil {
		return nil
	}
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{conf.BindAddr}, BindPort: conf.BindPort,
	})
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	conf.Transport = g.cfg.WrapTransport(t)
	return nil
}

// Run joins and keeps telling until ctx ends. Close ends what Start began.
func (g *Gossip) Run(ctx context.Context) error {
	join, tell := time.NewTimer(0), time.NewTicker(tellEvery)
	defer join.Stop()
	defer tell.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-join.C:
			if g.look(ctx) {
				join.Reset(lookEvery)
			} else {
				join.Reset(rejoinEvery)
			}
		case <-tell.C:
			g.Tell()
		}
	}
}

// Tell spreads the metadata if it has changed.
func (g *Gossip) Tell() {
	meta := encode(g.cfg.Meta())
	g.mu.Lock()
	list := g.list
	changed := list != nil && string(meta) != string(g.told)
	g.told = meta
	g.mu.Unlock()
	if !changed {
		return
	}
	if err := list.UpdateNode(tellEvery); err != nil {
		g.cfg.Log.Debug("gossip: metadata not spread yet", "error", err)
	}
}

// Members returns the live members, this node included, by server id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.alive))
	g.mu.Unlock()
	return newest(all)
}

// Address returns host and Raft port of a live server, or "".
func (g *Gossip) Address(serverID string) string {
	for _, m := range g.Members() {
		if m.Meta.ServerId == serverID {
			return m.RaftAddress()
		}
	}
	return ""
}

// Leave tells the others that the node goes.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.mu.Lock()
	list := g.list
	g.mu.Unlock()
	if list == nil {
		return nil
	}
	return list.Leave(timeout)
}

// Close stops listening without a word.
func (g *Gossip) Close() error {
	g.mu.Lock()
	list := g.list
	g.list = nil
	g.mu.Unlock()
	if list == nil {
		return nil
	}
	return list.Shutdown()
}

func encode(m *clusterpb.Meta) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || len(b) > memberlist.MetaMaxSize {
		return nil
	}
	return b
}

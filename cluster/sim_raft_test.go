package cluster

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/transport"
)

// simCarrier carries one node's Raft messages over a simNet, below the checks
// and the heartbeats of transport.Raft. Each message says hello by itself.
type simCarrier struct {
	x       *simNode
	streams *transport.Streams
	in      chan raft.RPC
	beat    atomic.Pointer[func(raft.RPC)]
	// done is closed with the transport, hungUp before that with the streams.
	done, hungUp chan struct{}
	once         sync.Once
}

var _ transport.Carrier = (*simCarrier)(nil)

func newSimCarrier(x *simNode, s *transport.Streams) *simCarrier {
	c := &simCarrier{x: x, streams: s, in: make(chan raft.RPC), done: make(chan struct{}), hungUp: make(chan struct{})}
	x.sim.net.wg.Go(func() {
		defer close(c.hungUp)
		_, _ = s.Accept() // nobody calls: it returns when the streams are closed
	})
	return c
}

// closed reports whether nothing gets out any more, answers neither: Raft may
// go on for a moment, on a disk that has failed.
func (c *simCarrier) closed() bool {
	_, closed := c.streams.Quiet()
	return closed
}

// simMessage is a request on its way.
type simMessage struct {
	link    simLink
	hello   *clusterpb.Hello
	command any
	body    []byte // of a snapshot
}

type simAnswer struct {
	response any
	err      error
}

// call sends a request and waits for the answer, as long as the real one.
func (c *simCarrier) call(target raft.ServerAddress, command any, body []byte) (any, error) {
	id, hostPort := transport.SplitAddress(target)
	host, _, _ := strings.Cut(hostPort, ":")
	if cut, _ := c.streams.Quiet(); cut {
		return nil, transport.ErrCut
	}
	n, self := c.x.sim.net, c.x.node.Welcome()
	m := &simMessage{link: simLink{c.x.host.id, host}, command: command, body: body, hello: &clusterpb.Hello{
		Kind: clusterpb.Hello_RAFT, ClusterId: self.ClusterId, Source: self.ServerId, Target: id, Recoveries: self.Recoveries,
	}}
	c.x.sim.checks.sent(m)
	answer := make(chan simAnswer, 1)
	n.wg.Go(func() { c.send(m, answer) })
	if later, again := n.twice(m.link); again {
		n.wg.Go(func() {
			if n.pause(later) {
				n.trace.message("again", m)
				c.send(m, make(chan simAnswer, 1))
			}
		})
	}
	timeout := time.NewTimer(raftTimeout)
	defer timeout.Stop()
	select {
	case a := <-answer:
		return a.response, a.err
	case <-timeout.C:
		return nil, errSimTimeout
	case <-c.hungUp:
		return nil, raft.ErrTransportShutdown
	}
}

// send takes a message to its target and the answer back. Who has lost one
// hears of it after a while, or never.
func (c *simCarrier) send(m *simMessage, answer chan<- simAnswer) {
	n := c.x.sim.net
	if c.x.crashed() {
		return
	}
	n.trace.message("send", m)
	a, ok := simAnswer{}, n.travel(m.link)
	if ok {
		a, ok = c.deliver(m)
	}
	if ok && n.travel(simLink{m.link.to, m.link.from}) {
		answer <- a
		return
	}
	n.trace.message("lose", m)
	if n.often(500) && n.pause(n.upTo(500*time.Millisecond)) {
		answer <- simAnswer{err: errSimReset}
	}
}

// deliver hands a message to Raft, and returns its answer; false when the
// target crashes meanwhile.
func (c *simCarrier) deliver(m *simMessage) (simAnswer, bool) {
	x := c.x.sim.net.at(m.link.to)
	if x == nil || x.carrier.Load() == nil {
		return simAnswer{err: errSimRefused}, true
	}
	to := x.carrier.Load()
	if to.closed() {
		return simAnswer{err: errSimRefused}, true
	}
	if refusal := x.node.Admit(m.hello); refusal != "" {
		return simAnswer{err: &transport.RefusedError{ServerID: m.hello.Target, Reason: refusal}}, true
	}
	if reason := c.x.node.Believe(x.node.Welcome()); reason != "" {
		return simAnswer{err: fmt.Errorf("not believed: %s", reason)}, true
	}
	c.x.sim.net.trace.message("receive", m)
	command, heartbeat := copyOf(m.command)
	back := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: command, RespChan: back, Reader: bytes.NewReader(m.body)}
	if beat := to.beat.Load(); heartbeat && beat != nil {
		(*beat)(rpc)
	} else {
		select {
		case to.in <- rpc:
		case <-to.hungUp:
			return simAnswer{err: errSimReset}, true
		}
	}
	select {
	case r := <-back:
		return simAnswer{r.Response, r.Error}, !x.crashed() && !to.closed()
	case <-to.hungUp:
		return simAnswer{err: errSimReset}, !x.crashed()
	}
}

// copyOf returns a message that shares nothing with its sender, and whether it
// is a heartbeat to raft.NetworkTransport.
func copyOf(command any) (same any, heartbeat bool) {
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		c := *r
		c.Entries = make([]*raft.Log, len(r.Entries))
		for i, e := range r.Entries {
			entry := *e
			entry.Data, entry.Extensions = slices.Clone(e.Data), slices.Clone(e.Extensions)
			c.Entries[i] = &entry
		}
		return &c, r.Term != 0 && r.Addr != nil && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && len(r.Entries) == 0 && r.LeaderCommitIndex == 0
	case *raft.RequestVoteRequest:
		c := *r
		return &c, false
	case *raft.RequestPreVoteRequest:
		c := *r
		return &c, false
	case *raft.InstallSnapshotRequest:
		c := *r
		return &c, false
	case *raft.TimeoutNowRequest:
		c := *r
		return &c, false
	}
	panic(fmt.Sprintf("a message of type %T", command))
}

// ask calls, and puts the answer where Raft wants it.
func ask[R any](c *simCarrier, target raft.ServerAddress, args any, body []byte, into *R) error {
	command, _ := copyOf(args)
	got, err := c.call(target, command, body)
	if err != nil {
		return err
	}
	r, ok := got.(*R)
	if !ok {
		return fmt.Errorf("an answer of type %T", got)
	}
	*into = *r
	return nil
}

// AppendEntries implements raft.Transport.
func (c *simCarrier) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return ask(c, to, args, nil, resp)
}

// RequestVote implements raft.Transport.
func (c *simCarrier) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return ask(c, to, args, nil, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (c *simCarrier) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return ask(c, to, args, nil, resp)
}

// TimeoutNow implements raft.Transport.
func (c *simCarrier) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return ask(c, to, args, nil, resp)
}

// InstallSnapshot implements raft.Transport.
func (c *simCarrier) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	body, err := io.ReadAll(data)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	return ask(c, to, args, body, resp)
}

// AppendEntriesPipeline implements raft.Transport, as the real one is set up.
func (c *simCarrier) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// Consumer implements raft.Transport.
func (c *simCarrier) Consumer() <-chan raft.RPC { return c.in }

// LocalAddr implements raft.Transport.
func (c *simCarrier) LocalAddr() raft.ServerAddress {
	return raft.ServerAddress(c.streams.Addr().String())
}

// EncodePeer implements raft.Transport.
func (c *simCarrier) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements raft.Transport.
func (c *simCarrier) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (c *simCarrier) SetHeartbeatHandler(do func(raft.RPC)) { c.beat.Store(&do) }

// CloseStreams implements transport.Carrier.
func (c *simCarrier) CloseStreams() {}

// Close implements raft.WithClose.
func (c *simCarrier) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

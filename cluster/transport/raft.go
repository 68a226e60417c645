package transport

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// busyAfter is how long a heartbeat waits for Raft's main loop before the
// transport may answer it. Well below a leader's lease.
const busyAfter = 25 * time.Millisecond

// maxRPCsInFlight of 1 turns Raft's pipelining off. Its pipeline deadlocks: when
// the decoder ends on an answer that is no success while the next request is
// being handed on, that hand-over waits for ever, the follower gets heartbeats
// but no entries, and Raft cannot shut down. Entries that come while a request
// is under way go together with the next one.
const maxRPCsInFlight = 1

// A Follower is what the transport must know of Raft to answer a heartbeat
// in its place. All methods are atomic reads of Raft's published state.
type Follower interface {
	State() raft.RaftState
	CurrentTerm() uint64
	LastIndex() uint64
	LeaderWithID() (raft.ServerAddress, raft.ServerID)
}

// Carrier carries Raft's messages, unchecked: a raft.NetworkTransport, or what a
// simulation has in its place.
type Carrier interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	// CloseStreams ends the connections to other servers.
	CloseStreams()
}

// Raft is the transport given to Raft.
type Raft struct {
	Carrier
	streams  *Streams
	follower atomic.Pointer[Follower]
	header   raft.RPCHeader
	diverged func()
	turn     func() time.Duration
	campaign campaign
	sealed   bool // pump refuses everything

	rpcs chan raft.RPC
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

// Without these interfaces Raft silently does without: pre-vote above all.
var (
	_ raft.Transport   = (*Raft)(nil)
	_ raft.WithPreVote = (*Raft)(nil)
	_ raft.WithPeers   = (*Raft)(nil)
	_ raft.WithClose   = (*Raft)(nil)
)

// RaftConfig of a transport. It is for the server with this id alone.
type RaftConfig struct {
	Streams *Streams
	ID      raft.ServerID
	Timeout time.Duration
	Log     hclog.Logger
	// Diverged is called when Raft must be started anew, see install.
	Diverged func()
	// Turn is how long to wait before a pre-vote is asked for; nil: not at all.
	Turn func() time.Duration
	// Carrier is the one to use; nil: connections of Streams.
	Carrier Carrier
}

// NewRaft starts a transport; Raft closes it when it shuts down.
func NewRaft(c RaftConfig) *Raft {
	if c.Carrier == nil {
		c.Carrier = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: c.Streams, MaxPool: 3, MaxRPCsInFlight: maxRPCsInFlight, Timeout: c.Timeout, Logger: c.Log,
			MsgpackUseNewTimeFormat: true,
		})
	}
	t := &Raft{
		Carrier:  c.Carrier,
		diverged: c.Diverged,
		turn:     c.Turn,
		streams:  c.Streams,
		header: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.ID), Addr: []byte(c.Streams.local),
		},
		rpcs: make(chan raft.RPC),
		done: make(chan struct{}),
	}
	t.Carrier.SetHeartbeatHandler(t.heartbeat)
	t.wg.Go(t.pump)
	return t
}

// Attach tells the transport whose state decides about heartbeats. Until then
// every heartbeat waits for the main loop.
func (t *Raft) Attach(f Follower) { t.follower.Store(&f) }

// Consumer implements raft.Transport.
func (t *Raft) Consumer() <-chan raft.RPC { return t.rpcs }

// SetHeartbeatHandler implements raft.Transport. Raft's handler is not used:
// called beside the main loop it races it and may move the term back.
func (t *Raft) SetHeartbeatHandler(func(raft.RPC)) {}

// pump hands on what passes the checks.
func (t *Raft) pump() {
	in := t.Carrier.Consumer()
	for {
		select {
		case rpc := <-in:
			err := t.check(rpc.Command)
			if t.sealed {
				err = errSealed
			}
			if err != nil {
				t.wg.Go(func() { refuse(rpc, err) })
				continue
			}
			switch req := rpc.Command.(type) {
			case *raft.InstallSnapshotRequest:
				t.install(rpc, req)
			case *raft.RequestPreVoteRequest:
				t.answerPreVote(rpc, req)
			default:
				select {
				case t.rpcs <- rpc:
				case <-t.done:
					return
				}
			}
		case <-t.done:
			return
		}
	}
}

var errSealed = errors.New("raft is being started anew")

// install hands a snapshot to Raft and looks at what became of it, before
// Raft hears anything else.
//
// A log that had diverged may be longer than the snapshot. The store clears
// itself, but Raft goes on believing in the last entry that it had: it votes
// by it, and refuses what follows the snapshot, so that the leader sends the
// snapshot again and again. Only a new start makes Raft look into the store.
func (t *Raft) install(rpc raft.RPC, req *raft.InstallSnapshotRequest) {
	r, ok := t.ask(rpc)
	if !ok {
		return
	}
	resp, ok := r.Response.(*raft.InstallSnapshotResponse)
	if f := t.follower.Load(); ok && resp.Success && f != nil && (*f).LastIndex() > req.LastLogIndex {
		t.sealed = true
		t.diverged()
	}
	rpc.RespChan <- r
}

// refuse answers with an error, after the bytes that follow a snapshot.
func refuse(rpc raft.RPC, err error) {
	if rpc.Reader != nil {
		_, _ = io.Copy(io.Discard, rpc.Reader) // the answer says it all
	}
	rpc.Respond(nil, err)
}

// heartbeat hands a heartbeat to the main loop, and answers it in its place
// when that is busy and the heartbeat changes nothing. The leader keeps its
// lease while a follower's disk is slow; the follower's own timer is set anew
// by the main loop at the end of whatever it was busy with.
func (t *Raft) heartbeat(rpc raft.RPC) {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok {
		rpc.Respond(nil, errMalformed)
		return
	}
	if err := t.check(req); err != nil {
		rpc.Respond(nil, err)
		return
	}
	for {
		timer := time.NewTimer(busyAfter)
		select {
		case t.rpcs <- rpc:
			timer.Stop()
			return
		case <-t.done:
			timer.Stop()
			return
		case <-timer.C:
		}
		if last, ok := t.unchanged(req); ok {
			rpc.Respond(&raft.AppendEntriesResponse{
				RPCHeader: t.header, Term: req.Term, LastLog: last, Success: true,
			}, nil)
			return
		}
	}
}

// unchanged reports whether Raft follows the sender in the heartbeat's term.
// The term is read last: it was the heartbeat's at an instant after the
// heartbeat arrived, which is all that an answer says.
func (t *Raft) unchanged(req *raft.AppendEntriesRequest) (lastLog uint64, ok bool) {
	p := t.follower.Load()
	if p == nil {
		return 0, false
	}
	f := *p
	addr, id := f.LeaderWithID()
	if f.State() != raft.Follower || string(id) != string(req.ID) || string(addr) != string(req.Addr) {
		return 0, false
	}
	return f.LastIndex(), f.CurrentTerm() == req.Term
}

// Campaign makes the server stand for election at once. Only for a server
// that knows that there is no leader: the single voter of a cluster, and the
// one that has just bootstrapped it.
func (t *Raft) Campaign() {
	f := t.follower.Load()
	if f == nil || (*f).State() != raft.Follower {
		return
	}
	if _, leader := (*f).LeaderWithID(); leader != "" {
		return
	}
	t.ask(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: t.header}})
}

// Connect implements raft.WithPeers; connections are made when needed.
func (t *Raft) Connect(raft.ServerAddress, raft.Transport) {}

// Disconnect implements raft.WithPeers.
func (t *Raft) Disconnect(raft.ServerAddress) { t.DisconnectAll() }

// DisconnectAll implements raft.WithPeers.
func (t *Raft) DisconnectAll() { t.Carrier.CloseStreams() }

// Close implements raft.WithClose.
func (t *Raft) Close() error {
	t.once.Do(func() { close(t.done) })
	err := t.Carrier.Close()
	t.Carrier.CloseStreams()
	t.wg.Wait()
	return err
}

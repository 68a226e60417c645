package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// gate is a server of a cluster.
type gate struct{ id, cluster string }

func (g gate) Admit(h *clusterpb.Hello) string {
	if h.Target != "" && h.Target != g.id {
		return "wrong target"
	}
	return ""
}

// Believe takes everybody for one of ours but who has another cluster.
func (g gate) Believe(w *clusterpb.Welcome) string {
	if w.ClusterId != g.cluster {
		return "another cluster"
	}
	return ""
}

func (g gate) Welcome() *clusterpb.Welcome {
	return &clusterpb.Welcome{ServerId: g.id, ClusterId: g.cluster}
}

// end is one server's transport and the RPCs that reach its Raft.
type end struct {
	mux     *Mux
	streams *Streams
	raft    *Raft
	address raft.ServerAddress

	diverged atomic.Bool
}

func newEnd(t *testing.T, id string) *end {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := gate{id: id, cluster: "c"}
	e := &end{address: Address(id, ln.Addr().String())}
	e.mux = NewMux(ln, g, slog.New(slog.DiscardHandler))
	e.streams = NewStreams(e.mux.Raft(), NewDialer(nil, g), e.address, func(string) string { return "" })
	e.raft = NewRaft(RaftConfig{
		Streams: e.streams, ID: raft.ServerID(id), Timeout: 400 * time.Millisecond, Log: hclog.NewNullLogger(),
		Diverged: func() { e.diverged.Store(true) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.mux.Run(ctx) }()
	t.Cleanup(func() {
		e.raft.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// follower is what Raft publishes of itself.
type follower struct{ now atomic.Pointer[status] }

type status struct {
	state  raft.RaftState
	term   uint64
	leader raft.ServerID
	addr   raft.ServerAddress
}

func (f *follower) State() raft.RaftState { return f.now.Load().state }
func (f *follower) CurrentTerm() uint64   { return f.now.Load().term }
func (f *follower) LastIndex() uint64     { return 7 }
func (f *follower) LeaderWithID() (raft.ServerAddress, raft.ServerID) {
	s := f.now.Load()
	return s.addr, s.leader
}

// follow makes b a follower of a in term 5.
func follow(a, b *end) *follower {
	f := &follower{}
	f.now.Store(&status{state: raft.Follower, term: 5, leader: "a/1", addr: a.address})
	b.raft.Attach(f)
	return f
}

// serve answers what reaches Raft, as its main loop would.
func (e *end) serve(answer func(raft.RPC)) {
	go func() {
		for {
			select {
			case rpc := <-e.raft.Consumer():
				answer(rpc)
			case <-e.raft.done:
				return
			}
		}
	}()
}

func header(e *end, id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(e.address)}
}

func TestHeartbeatOfABusyFollower(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	f := follow(a, b)
	beat := func(term uint64) (*raft.AppendEntriesResponse, error) {
		resp := &raft.AppendEntriesResponse{}
		return resp, a.raft.AppendEntries("b/1", b.address, &raft.AppendEntriesRequest{RPCHeader: header(a, "a/1"), Term: term}, resp)
	}
	// Nobody serves b's Raft: its main loop is busy.
	began := time.Now()
	resp, err := beat(5)
	if err != nil || !resp.Success || resp.Term != 5 || resp.LastLog != 7 {
		t.Fatalf("a heartbeat that changes nothing: %+v, %v", resp, err)
	}
	if took := time.Since(began); took > 150*time.Millisecond {
		t.Errorf("it took %s, which costs the leader its lease", took)
	}
	for name, now := range map[string]*status{
		"a higher term":      {raft.Follower, 4, "a/1", a.address},
		"a lower term":       {raft.Follower, 6, "a/1", a.address},
		"a candidate":        {raft.Candidate, 5, "a/1", a.address},
		"another leader":     {raft.Follower, 5, "c/1", a.address},
		"a leader elsewhere": {raft.Follower, 5, "a/1", "a/1@127.0.0.1:9"},
	} {
		f.now.Store(now)
		if resp, err := beat(5); err == nil {
			t.Errorf("%s: answered beside the main loop: %+v", name, resp)
		}
	}
}

// The schedule of raft issue 695: while the main loop is inside an election,
// a heartbeat of the old term arrives. Raft's own handler, called beside the
// main loop, would set the term back. Here Raft sees it on the main loop only,
// and the handler that Raft installs is never called.
func TestHeartbeatNeverRunsBesideTheMainLoop(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	f := follow(a, b)
	b.raft.SetHeartbeatHandler(func(raft.RPC) { t.Error("Raft's handler was called beside the main loop") })

	// The main loop votes for itself in term 6, which takes a while.
	f.now.Store(&status{state: raft.Candidate, term: 6})
	resp := make(chan *raft.AppendEntriesResponse, 1)
	go func() {
		r := &raft.AppendEntriesResponse{}
		if err := a.raft.AppendEntries("b/1", b.address, &raft.AppendEntriesRequest{RPCHeader: header(a, "a/1"), Term: 5}, r); err != nil {
			t.Error(err)
		}
		resp <- r
	}()
	select {
	case r := <-resp:
		if r.Success {
			t.Fatalf("a candidate of term 6 followed term 5: %+v", r)
		}
	case <-time.After(200 * time.Millisecond):
	}
	b.serve(func(rpc raft.RPC) {
		if got := rpc.Command.(*raft.AppendEntriesRequest).Term; got != 5 {
			t.Errorf("term %d", got)
		}
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header(b, "b/1"), Term: f.CurrentTerm()}, nil)
	})
	if r := <-resp; r.Success || r.Term != 6 {
		t.Errorf("answer %+v", r)
	}
}

func TestFreeMainLoopGetsEveryHeartbeat(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	follow(a, b)
	var got atomic.Int64
	b.serve(func(rpc raft.RPC) {
		got.Add(1)
		rpc.Respond(&raft.AppendEntriesResponse{Term: 5, Success: true}, nil)
	})
	for range 50 {
		if err := a.raft.AppendEntries("b/1", b.address, &raft.AppendEntriesRequest{RPCHeader: header(a, "a/1"), Term: 5}, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	if got.Load() != 50 {
		t.Errorf("%d of 50 heartbeats reached Raft, whose timer they set anew", got.Load())
	}
}

func TestMalformedMessagesDoNotReachRaft(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	follow(a, b)
	b.serve(func(rpc raft.RPC) {
		t.Errorf("reached Raft: %+v", rpc.Command)
		rpc.Respond(nil, errors.New("unreachable"))
	})
	h := header(a, "a/1")
	voterless := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Nonvoter, ID: "x", Address: "x"}}})
	for name, req := range map[string]*raft.AppendEntriesRequest{
		"absurd term":             {RPCHeader: h, Term: 1 << 60},
		"no sender":               {RPCHeader: raft.RPCHeader{ProtocolVersion: 3}, Term: 5},
		"old protocol":            {RPCHeader: raft.RPCHeader{ProtocolVersion: 2, ID: h.ID, Addr: h.Addr}, Term: 5},
		"broken configuration":    {RPCHeader: h, Term: 5, Entries: []*raft.Log{{Index: 1, Term: 5, Type: raft.LogConfiguration, Data: []byte("\xff\xff")}}},
		"configuration of nobody": {RPCHeader: h, Term: 5, Entries: []*raft.Log{{Index: 1, Term: 5, Type: raft.LogConfiguration, Data: voterless}}},
		"unknown kind of entry":   {RPCHeader: h, Term: 5, Entries: []*raft.Log{{Index: 1, Term: 5, Type: 77}}},
		"deprecated kind":         {RPCHeader: h, Term: 5, Entries: []*raft.Log{{Index: 1, Term: 5, Type: raft.LogRemovePeerDeprecated}}},
		"gap":                     {RPCHeader: h, Term: 5, PrevLogEntry: 3, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 5, Term: 5}}},
		"entry of the future":     {RPCHeader: h, Term: 5, Entries: []*raft.Log{{Index: 1, Term: 6}}},
	} {
		if err := a.raft.AppendEntries("b/1", b.address, req, &raft.AppendEntriesResponse{}); err == nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := a.raft.RequestVote("b/1", b.address, &raft.RequestVoteRequest{RPCHeader: h, Term: 1 << 60}, &raft.RequestVoteResponse{})
	if err == nil {
		t.Error("a vote in an absurd term")
	}
	// A refused snapshot's bytes are read, so that its sender hears of it.
	err = a.raft.InstallSnapshot("b/1", b.address, &raft.InstallSnapshotRequest{
		RPCHeader: h, SnapshotVersion: 1, Term: 5, Size: 1 << 20, Configuration: []byte("\xff"),
	}, &raft.InstallSnapshotResponse{}, io.LimitReader(zeros{}, 1<<20))
	if err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("snapshot: %v", err)
	}
}

// After a snapshot that is shorter than the log it replaced, Raft hears nothing
// more: it would vote by an entry that is gone.
func TestSnapshotOverALongerLogSealsRaft(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	follow(a, b) // whose last index is 7
	b.serve(func(rpc raft.RPC) {
		switch rpc.Command.(type) {
		case *raft.InstallSnapshotRequest:
			_, _ = io.Copy(io.Discard, rpc.Reader) // zeros
			rpc.Respond(&raft.InstallSnapshotResponse{Term: 5, Success: true}, nil)
		default:
			rpc.Respond(&raft.RequestVoteResponse{Term: 5, Granted: true}, nil)
		}
	})
	install := func(last uint64) {
		t.Helper()
		resp := &raft.InstallSnapshotResponse{}
		err := a.raft.InstallSnapshot("b/1", b.address, &raft.InstallSnapshotRequest{
			RPCHeader: header(a, "a/1"), SnapshotVersion: 1, Term: 5, LastLogIndex: last, LastLogTerm: 4, Size: 100,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a/1", Address: a.address}}}),
		}, resp, io.LimitReader(zeros{}, 100))
		if err != nil || !resp.Success {
			t.Fatalf("%+v, %v", resp, err)
		}
	}
	vote := func() error {
		return a.raft.RequestVote("b/1", b.address, &raft.RequestVoteRequest{RPCHeader: header(a, "a/1"), Term: 6}, &raft.RequestVoteResponse{})
	}
	install(7)
	if err := vote(); err != nil || b.diverged.Load() {
		t.Fatalf("an ordinary snapshot: %v", err)
	}
	install(5)
	if err := vote(); err == nil || !b.diverged.Load() {
		t.Errorf("it votes by what it no longer has: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestRaftConnectionIsForOneIncarnation(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/2")
	_, hostPort := SplitAddress(b.address)
	err := a.raft.RequestVote("b/1", Address("b/1", hostPort), &raft.RequestVoteRequest{RPCHeader: header(a, "a/1"), Term: 1}, &raft.RequestVoteResponse{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.ServerID != "b/2" {
		t.Errorf("%v", err)
	}
}

func TestCutStopsWhatANodeSays(t *testing.T) {
	a, b := newEnd(t, "a/1"), newEnd(t, "b/1")
	b.serve(func(rpc raft.RPC) { rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil) })
	a.serve(func(rpc raft.RPC) { rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil) })
	ask := func(from, to *end, id string) error {
		return from.raft.RequestVote(raft.ServerID(id), to.address, &raft.RequestVoteRequest{RPCHeader: header(from, "x"), Term: 1}, &raft.RequestVoteResponse{})
	}
	if err := ask(a, b, "b/1"); err != nil {
		t.Fatal(err)
	}
	a.streams.Cut(true)
	if err := ask(a, b, "b/1"); err == nil {
		t.Error("it still asks")
	}
	if err := ask(a, b, "b/1"); !errors.Is(err, ErrCut) {
		t.Errorf("%v", err)
	}
	if err := ask(b, a, "a/1"); err != nil {
		t.Errorf("it does not answer: %v", err)
	}
	a.streams.Cut(false)
	if err := ask(a, b, "b/1"); err != nil {
		t.Error(err)
	}
}

func TestNoiseOnTheRaftPort(t *testing.T) {
	b := newEnd(t, "b/1")
	_, hostPort := SplitAddress(b.address)
	for _, noise := range []string{"GET / HTTP/1.1\r\n\r\n", "ECP\x02\x00\x00", "ECP\x01\xff\xff", "ECP\x01\x00\x03\xff\xff\xff"} {
		conn, err := net.Dial("tcp", hostPort)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, noise); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %d bytes, %v", noise, n, err)
		}
		conn.Close()
	}
}

// Who answers a call for one of ours and is none of ours is hung up on; who
// is only asked who he is may be anybody.
func TestDialerBelievesItsOwnOnly(t *testing.T) {
	to := newEnd(t, "b/1")
	for cluster, want := range map[string]bool{"c": true, "other": false} {
		d := NewDialer(nil, gate{id: "a/1", cluster: cluster})
		for _, target := range []string{"b/1", ""} {
			conn, welcome, err := d.Connect(t.Context(), clusterpb.Hello_RPC, target, to.mux.ln.Addr().String())
			if (err == nil) != (want || target == "") {
				t.Errorf("cluster %q, target %q: %v", cluster, target, err)
			}
			if err == nil {
				conn.Close()
				if welcome.ServerId != "b/1" {
					t.Errorf("%v answered", welcome)
				}
			}
		}
	}
}

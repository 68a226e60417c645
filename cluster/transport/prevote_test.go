package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// booth is a carrier on which this server's questions are all granted, after a
// while, and others ask.
type booth struct {
	Carrier
	in    chan raft.RPC
	after time.Duration
	asked []time.Time
}

func (b *booth) Consumer() <-chan raft.RPC                           { return b.in }
func (b *booth) SetHeartbeatHandler(func(raft.RPC))                  {}
func (b *booth) Close() error                                        { return nil }
func (b *booth) CloseStreams()                                       {}
func (b *booth) LocalAddr() raft.ServerAddress                       { return "" }
func (b *booth) EncodePeer(raft.ServerID, raft.ServerAddress) []byte { return nil }

func (b *booth) RequestPreVote(
	_ raft.ServerID, _ raft.ServerAddress, _ *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	b.asked = append(b.asked, time.Now())
	time.Sleep(b.after)
	resp.Granted = true
	return nil
}

func question(id string, term, index uint64) *raft.RequestPreVoteRequest {
	return &raft.RequestPreVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)},
		Term:      5, LastLogTerm: term, LastLogIndex: index,
	}
}

// candidate runs server "b" in simulated time. Its Raft grants whatever it is asked.
func candidate(t *testing.T, turn time.Duration, do func(b *booth, r *Raft, asks func(*raft.RequestPreVoteRequest) bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &booth{in: make(chan raft.RPC), after: 2 * time.Millisecond}
		r := NewRaft(RaftConfig{Streams: &Streams{}, ID: "b", Carrier: b, Turn: func() time.Duration { return turn }})
		defer r.Close()
		f := &follower{}
		f.now.Store(&status{state: raft.Candidate, term: 4})
		r.Attach(f)
		go func() {
			for {
				select {
				case rpc := <-r.Consumer():
					if _, ok := rpc.Command.(*raft.TimeoutNowRequest); ok {
						f.now.Store(&status{state: raft.Candidate, term: 4})
						rpc.Respond(&raft.TimeoutNowResponse{}, nil)
						continue
					}
					rpc.Respond(&raft.RequestPreVoteResponse{Term: 4, Granted: f.now.Load().leader == ""}, nil)
				case <-r.done:
					return
				}
			}
		}()
		do(b, r, func(q *raft.RequestPreVoteRequest) bool {
			answer := make(chan raft.RPCResponse, 1)
			b.in <- raft.RPC{Command: q, RespChan: answer}
			a := <-answer
			resp, ok := a.Response.(*raft.RequestPreVoteResponse)
			if a.Error != nil || !ok || resp.Term != 4 {
				t.Errorf("answered %+v", a)
			}
			return ok && resp.Granted
		})
	})
}

// Of candidates whose questions cross, one goes on, the same for both.
func TestQuestionsThatCross(t *testing.T) {
	for name, c := range map[string]struct {
		other *raft.RequestPreVoteRequest
		wins  bool
	}{
		"a later entry":      {question("a", 3, 8), false},
		"a later term":       {question("c", 4, 1), false},
		"the lesser id":      {question("a", 3, 7), false},
		"the greater id":     {question("c", 3, 7), true},
		"an entry too few":   {question("a", 3, 6), true},
		"a term that is old": {question("a", 2, 9), true},
	} {
		t.Run(name, func(t *testing.T) {
			candidate(t, 0, func(_ *booth, r *Raft, asks func(*raft.RequestPreVoteRequest) bool) {
				var mine raft.RequestPreVoteResponse
				done := make(chan error)
				go func() { done <- r.RequestPreVote("x", "x", question("b", 3, 7), &mine) }()
				synctest.Wait()
				theirs := asks(c.other)
				if err := <-done; err != nil || mine.Granted != c.wins || theirs == c.wins {
					t.Errorf("%v: mine %v, the other's %v", err, mine.Granted, theirs)
				}
				time.Sleep(GiveWay)
				if !asks(question("c", 0, 0)) {
					t.Error("an election that is over counts")
				}
			})
		})
	}
}

func TestCandidateWaitsForItsTurn(t *testing.T) {
	const turn = 100 * time.Millisecond
	candidate(t, turn, func(b *booth, r *Raft, asks func(*raft.RequestPreVoteRequest) bool) {
		ask := func() (time.Duration, bool) {
			var resp raft.RequestPreVoteResponse
			began := time.Now()
			if err := r.RequestPreVote("x", "x", question("b", 3, 7), &resp); err != nil {
				t.Error(err)
			}
			return b.asked[len(b.asked)-1].Sub(began), resp.Granted
		}
		if waited, granted := ask(); waited != turn || !granted {
			t.Errorf("asked after %s, granted %v", waited, granted)
		}
		// And for one that it has promised its vote just before.
		go func() {
			time.Sleep(turn - GiveWay/5)
			asks(question("c", 3, 7))
		}()
		if waited, granted := ask(); waited != turn+GiveWay*4/5 || !granted {
			t.Errorf("asked after %s, granted %v", waited, granted)
		}
	})
}

// A candidate that a transfer made, and that noted another leader since, has none.
func TestCandidateHasNoLeader(t *testing.T) {
	candidate(t, 0, func(_ *booth, r *Raft, asks func(*raft.RequestPreVoteRequest) bool) {
		for _, c := range []struct {
			state raft.RaftState
			votes bool
		}{{raft.Candidate, true}, {raft.Follower, false}} {
			if f, ok := (*r.follower.Load()).(*follower); ok {
				f.now.Store(&status{state: c.state, term: 4, leader: "x/1", addr: "x"})
			}
			if asks(question("c", 3, 7)) != c.votes {
				t.Errorf("%s with a leader: votes %v", c.state, !c.votes)
			}
		}
	})
}

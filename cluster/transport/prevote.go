package transport

import (
	"bytes"
	"cmp"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// GiveWay is how long a candidate has for its election once it has asked, and once
// it has been promised a vote.
const GiveWay = 50 * time.Millisecond

// campaign is what this server asked for last, as a candidate, and promised last,
// as a voter.
type campaign struct {
	mu              sync.Mutex
	mine            *raft.RequestPreVoteRequest
	asked, promised time.Time
}

// wait is how long another one's election may still take.
func (c *campaign) wait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Until(c.promised.Add(GiveWay))
}

func (c *campaign) begin(mine *raft.RequestPreVoteRequest) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mine, c.asked = mine, time.Now()
	return c.asked
}

func (c *campaign) promise() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.promised = time.Now()
}

// over reports whether a vote was promised since a time.
func (c *campaign) over(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.promised.Before(since)
}

// beats reports whether this server is asking, too, and goes before another one.
func (c *campaign) beats(other *raft.RequestPreVoteRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mine != nil && time.Since(c.asked) < GiveWay && cmp.Or(
		cmp.Compare(c.mine.LastLogTerm, other.LastLogTerm),
		cmp.Compare(c.mine.LastLogIndex, other.LastLogIndex),
		bytes.Compare(other.ID, c.mine.ID)) > 0
}

// RequestPreVote implements raft.WithPreVote. Raft's candidates that ask at the
// same time take the votes from each other, and wait for an election timeout. So
// each waits for its turn, and for one that it has promised its vote meanwhile. Of
// two whose questions cross, the one with more in its log goes on, or with the
// lesser id: it refuses the other, which takes no for an answer to its own.
func (t *Raft) RequestPreVote(
	id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	wait := time.Duration(0)
	if t.turn != nil {
		wait = t.turn()
	}
	for wait > 0 {
		select {
		case <-time.After(wait):
		case <-t.done:
			return raft.ErrTransportShutdown
		}
		wait = t.campaign.wait()
	}
	asked := t.campaign.begin(req)
	err := t.Carrier.RequestPreVote(id, to, req, resp)
	if t.campaign.over(asked) {
		resp.Granted = false
	}
	return err
}

// answerPreVote hands the question of another candidate to Raft, unless this
// server goes before it.
func (t *Raft) answerPreVote(rpc raft.RPC, req *raft.RequestPreVoteRequest) {
	if f := t.follower.Load(); f != nil && t.campaign.beats(req) {
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: t.header, Term: (*f).CurrentTerm()}, nil)
		return
	}
	t.forgetLeader()
	r, ok := t.ask(rpc)
	if !ok {
		return
	}
	if resp, ok := r.Response.(*raft.RequestPreVoteResponse); ok && resp.Granted {
		t.campaign.promise()
	}
	rpc.RespChan <- r
}

// forgetLeader takes a candidate's leader from it. One that a leader's transfer has
// made a candidate stays it when another one leads, but notes who that is; when
// that leader dies at once it would refuse everybody's pre-vote for its sake, for
// ever. Of what Raft hears, only another TimeoutNow makes it forget.
func (t *Raft) forgetLeader() {
	f := t.follower.Load()
	if f == nil {
		return
	}
	if _, leader := (*f).LeaderWithID(); leader != "" && (*f).State() == raft.Candidate {
		t.ask(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: t.header}})
	}
}

// ask hands a request to Raft and returns the answer, before Raft hears anything
// else; ok is false when the transport is closed.
func (t *Raft) ask(rpc raft.RPC) (r raft.RPCResponse, ok bool) {
	answer := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answer
	select {
	case t.rpcs <- rpc:
	case <-t.done:
		return r, false
	}
	select {
	case r = <-answer:
		return r, true
	case <-t.done:
		return r, false
	}
}

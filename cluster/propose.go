package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

var (
	errNotLeader = fsm.Refusal(fsm.CodeNotLeader, "this node does not lead; nothing was written")
	errFull      = fsm.Refusal(fsm.CodeStorageFull, "there is no room for it on the disks of a majority; nothing was written")
	errNoLeader  = fsm.Refusal(fsm.CodeNoLeader, "no leader at present; nothing was written")
	errOutOfTime = fsm.Refusal(fsm.CodeUnavailable, "the time ran out before the write was taken; nothing was written")
	errUnknown   = fsm.Refusal(fsm.CodeOutcomeUnknown, "the write was handed on, but whether it was applied is not known; repeat it under the same Idempotency-Key")
)

// catchUpTime is how long a forwarded write waits until this node has applied
// it too, so that the next read here sees it.
const catchUpTime = 2 * time.Second

// Propose writes a command to the log, here or through the leader, and returns
// what Apply made of it; a refusal decided there is a Result with a code. Of
// the errors only CodeOutcomeUnknown leaves open whether it was applied.
func (n *Node) Propose(ctx context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	keyed := c.GetIdempotency().GetKey() != ""
	result, err := n.proposeUntil(ctx, body, keyed)
	n.metrics.proposals.WithLabelValues(outcomeLabel(result, err)).Inc()
	return result, err
}

func outcomeLabel(r *fsmpb.Result, err error) string {
	switch code := fsm.CodeOf(err); {
	case err == nil && r.GetCode() == "":
		return "applied"
	case err == nil:
		return "refused"
	case code == "":
		return "error"
	default:
		return string(code)
	}
}

// proposeUntil tries again while there is certainly nothing written, or a key
// makes a second write harmless, as long as a failover takes.
func (n *Node) proposeUntil(ctx context.Context, body []byte, keyed bool) (*fsmpb.Result, error) {
	deadline := time.Now().Add(n.cfg.Failover)
	unknown := false
	for {
		result, err := n.proposeOnce(ctx, body)
		if err == nil {
			return result, nil
		}
		switch fsm.CodeOf(err) {
		case fsm.CodeNoLeader, fsm.CodeNotLeader:
			err = errNoLeader
		case fsm.CodeOutcomeUnknown:
			if !keyed {
				return nil, err
			}
			unknown = true
		default:
			if unknown {
				return nil, errUnknown
			}
			return nil, err
		}
		if time.Now().After(deadline) || !pause(ctx, 10*time.Millisecond) {
			if unknown {
				return nil, errUnknown
			}
			return nil, err
		}
	}
}

// pause waits for about d; false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d/2 + rand.N(d)):
		return true
	}
}

func (n *Node) proposeOnce(ctx context.Context, body []byte) (*fsmpb.Result, error) {
	rt := n.rt.Load()
	if rt == nil {
		return nil, errNoLeader
	}
	if rt.raft.State() == raft.Leader {
		return rt.proposer.submit(ctx, body)
	}
	leader := n.leaderServer()
	if leader == "" || leader == n.ident.ServerID() {
		return nil, errNoLeader
	}
	result, err := n.forward(ctx, rt, leader, body)
	if err != nil {
		return nil, err
	}
	caughtUp, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	_, _ = n.machine.wait(caughtUp, result.GetIndex()) // applied it is, also when this node lags
	return result, nil
}

// forward sends a command to the leader. An error is 'unknown' once a byte of
// it was on its way, unless the leader itself says that it took nothing.
func (n *Node) forward(caller context.Context, rt *runtime, leader string, body []byte) (*fsmpb.Result, error) {
	client, err := rt.peers.to(leader)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer background(ctx, func(ctx context.Context) { n.whileLed(ctx, leader, cancel) })()
	var sent atomic.Bool
	reply, err := client.Propose(context.WithValue(ctx, sentKey{}, &sent), &clusterpb.ProposeRequest{Command: body})
	if err != nil {
		if sent.Load() {
			return nil, fmt.Errorf("%w: %w", errUnknown, err)
		}
		if caller.Err() != nil {
			return nil, errOutOfTime
		}
		return nil, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	if err := errorOf(reply.GetOutcome()); err != nil {
		return nil, err
	}
	if reply.GetResult() == nil {
		return nil, fmt.Errorf("%w: an empty answer", errUnknown)
	}
	return reply.GetResult(), nil
}

// abandonAfter is how long a request to a leader that has been replaced may
// still take: one that hangs, with its connection whole, never answers.
const abandonAfter = time.Second

// whileLed calls abandon once somebody else has led for a while.
func (n *Node) whileLed(ctx context.Context, leader string, abandon func()) {
	tick := time.NewTicker(abandonAfter / 4)
	defer tick.Stop()
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if n.leaderServer() == leader {
				since = now
			} else if now.Sub(since) > abandonAfter {
				abandon()
				return
			}
		}
	}
}

// outcomeOf says an error in a reply. What carries no code may have done
// anything.
func outcomeOf(err error) *clusterpb.Outcome {
	if err == nil {
		return nil
	}
	code, detail := fsm.CodeOf(err), err.Error()
	var coded *fsm.Error
	if errors.As(err, &coded) {
		detail = coded.Detail
	} else {
		code = fsm.CodeOutcomeUnknown
	}
	return &clusterpb.Outcome{Code: string(code), Detail: detail}
}

// errorOf is the way back.
func errorOf(o *clusterpb.Outcome) error {
	if o.GetCode() == "" {
		return nil
	}
	return fsm.Refusal(fsm.Code(o.Code), "%s", o.Detail)
}

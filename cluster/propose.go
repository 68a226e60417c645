package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	result, err := rt.forwarder.submit(ctx, body)
	if err != nil {
		return nil, err
	}
	caughtUp, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	_, _ = n.machine.wait(caughtUp, result.GetIndex()) // applied it is, also when this node lags
	return result, nil
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

package api

import (
	"context"
	"errors"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// maxIndexWait bounds the wait for min_index: an index that the cluster does
// not reach by then is more likely a mistake than on its way.
const maxIndexWait = 10 * time.Second

// reader answers a read from one state.
type reader func(s *Server, c *call, st *fsm.State) (any, error)

// read makes a handler of a reader. The state is as fresh as the request asks
// for; a "no" that depends on it is said only after a read index, because
// this node may lag behind the one that took the write.
func read(answerFrom reader) handler {
	return func(s *Server, c *call) (*answer, error) {
		st, confirmed, err := s.stateFor(c)
		if err != nil {
			return nil, err
		}
		c.reflect(st)
		body, err := answerFrom(s, c, st)
		if err == nil || confirmed || !dependsOnState(err) {
			return &answer{body: body}, err
		}
		fresh, cannot := s.confirmed(c.ctx)
		if cannot != nil {
			return nil, cannot
		}
		if fresh.Index() == st.Index() {
			return nil, err
		}
		c.reflect(fresh)
		body, err = answerFrom(s, c, fresh)
		return &answer{body: body}, err
	}
}

// stateFor returns the state that a read asked for, and whether a quorum has
// confirmed that it is no older than the request.
func (s *Server) stateFor(c *call) (*fsm.State, bool, error) {
	if err := s.sameEpoch(c); err != nil {
		return nil, false, err
	}
	switch c.query.Get("consistency") {
	case "strong":
		st, err := s.confirmed(c.ctx)
		return st, true, err
	case "", "local":
	default:
		return nil, false, refuseParameter("consistency", "it is local or strong")
	}
	index, err := c.number("min_index")
	if err != nil {
		return nil, false, err
	}
	st, err := s.reached(c.ctx, index)
	return st, false, err
}

// reached returns a state that has reached an index.
func (s *Server) reached(ctx context.Context, index uint64) (*fsm.State, error) {
	st := s.deps.Cluster.State()
	if st.Index() >= index {
		return st, nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxIndexWait)
	defer cancel()
	st, err := s.deps.Cluster.WaitApplied(ctx, index)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, refuse(wire.CodeTimeout, "the node has not reached index %d yet, it is at %d",
			index, s.deps.Cluster.State().Index())
	}
	return st, err
}

// sameEpoch refuses a read whose min_index is of another epoch than the state.
// A node that lags behind a restore finds out first.
func (s *Server) sameEpoch(c *call) error {
	want := c.r.Header.Get(wire.HeaderEpoch)
	if want == "" || want == s.deps.Cluster.State().Identity().GetEpoch() {
		return nil
	}
	st, err := s.confirmed(c.ctx)
	if err != nil {
		return err
	}
	c.reflect(st)
	if c.epoch == want {
		return nil
	}
	return refuse(wire.CodeEpochChanged, "the request is of epoch %q, the state of epoch %q, which a restore or a recovery began: "+
		"indexes of the two cannot be compared; read again without them", want, c.epoch)
}

// confirmed returns a state that holds every write acknowledged before the
// call.
func (s *Server) confirmed(ctx context.Context) (*fsm.State, error) {
	index, err := s.deps.Cluster.ReadIndex(ctx)
	if err != nil {
		return nil, err
	}
	return s.deps.Cluster.WaitApplied(ctx, index)
}

package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/store"
)

// Stale reports whether the node, which has not been ready since its start,
// has the last state that its own disk knows to be committed: the others may
// have gone on since. It ends when the node is ready.
func (n *Node) Stale() bool { return n.stale.Load() && !n.ready.Load() && !n.removed() }

// becomeStale brings a node that finds no majority for StaleAfter up to what
// its disk knows to be committed.
func (n *Node) becomeStale(ctx context.Context) error {
	if n.cfg.StaleAfter == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(n.cfg.StaleAfter - time.Since(n.start)):
	}
	rt := n.rt.Load()
	if rt == nil || n.ready.Load() || n.removed() {
		return nil
	}
	if n.outdated.Load() != nil {
		n.log.Error("no majority, and the cluster was recovered without this node's data: it is not served")
		return nil
	}
	if err := n.machine.getAhead(rt.stores); err != nil {
		n.log.Error("cannot read the last committed state from disk", "error", err)
		return nil
	}
	st := n.State()
	if st.Identity().GetClusterId() == "" {
		n.log.Warn("no majority yet, and no state of a cluster on disk")
		return nil
	}
	n.stale.Store(true)
	n.log.Warn("no majority yet: the last committed state on disk counts until there is one, it may be stale",
		"index", st.Index(), "after", time.Since(n.start).Round(time.Millisecond))
	return nil
}

// getAhead applies the entries that the disk knows to be committed and Raft,
// without a majority, does not. Raft's own copies of them are passed over when
// it comes to them.
func (k *machine) getAhead(s *store.Stores) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	to, err := s.Committed()
	if err != nil {
		return fmt.Errorf("commit index: %w", err)
	}
	first, err := s.Log.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	began := k.state.Load().Index()
	for at := max(first, began+1); at <= to; {
		batch := make([]*raft.Log, 0, 128)
		for ; at <= to && len(batch) < cap(batch); at++ {
			entry := &raft.Log{}
			if err := s.Log.GetLog(at, entry); err != nil {
				return fmt.Errorf("entry %d: %w", at, err)
			}
			batch = append(batch, entry)
		}
		k.apply(batch)
		if reached := k.state.Load().Index(); reached > began {
			k.ahead = reached
		}
	}
	return nil
}

// settle writes one more entry behind the last command when the disks may not
// know that it is committed: they hear it with the write after. What followed
// may know less, as the first entry of a leader that was elected before it heard.
func (n *Node) settle(rt *runtime) {
	known, err := rt.stores.Committed()
	if err == nil && known < n.State().Index() {
		err = rt.raft.Barrier(changeTimeout).Error()
	}
	if err != nil {
		n.log.Debug("the last command is not known to be committed on all disks", "error", err)
	}
}

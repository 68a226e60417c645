package cluster

import (
	"context"
	"fmt"
	"time"
)

// watchEvery is how often the stores are looked at.
const watchEvery = 100 * time.Millisecond

// watchStore keeps a node whose disk hangs from leading on: its main loop is
// stuck in the write and cannot step down by itself. First the node says
// nothing more to the others, so that they elect; if it lasts, it gives up.
// After an I/O error it leaves Raft for good and serves what it has in memory.
func (n *Node) watchStore(ctx context.Context) error {
	rt := n.rt.Load()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	quiet, short := false, shortage{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := rt.stores.Watch.Failed(); err != nil {
			n.leaveRaft(rt, err)
			return nil
		}
		n.tendReserve(rt, &short)
		hang := rt.stores.Watch.Hanging()
		if hang > n.cfg.StoreFatal {
			return fmt.Errorf("a write to the Raft store in %s has been hanging for %s", n.cfg.DataDir, hang.Round(time.Second))
		}
		if now := hang > n.cfg.StoreQuiet; now != quiet {
			quiet = now
			rt.streams.Cut(quiet)
			if quiet {
				n.log.Error("a write to the Raft store hangs; the node keeps quiet so that the others elect", "hanging", hang)
			} else {
				n.log.Info("the Raft store answers again")
			}
		}
	}
}

// leaveRaft ends the node's part in Raft.
func (n *Node) leaveRaft(rt *runtime, err error) {
	reason := fmt.Sprintf("the disk in %s failed (%v): the node has left Raft and serves what it has in memory; replace the disk", n.cfg.DataDir, err)
	n.failed.Store(&reason)
	n.log.Error("the disk failed, leaving Raft for good", "error", err)
	_ = rt.streams.Close() // nothing the node says may count any more
	rt.raft.Shutdown()
	rt.stores.Watch.Release()
}

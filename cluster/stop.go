package cluster

import (
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
)

// end stops what runs, in the reverse order.
func (n *Node) end(rt *runtime) error {
	rt.proposer.stop()
	err := n.abort(rt)
	n.rt.Store(nil)
	return err
}

// abort closes whatever of the runtime there is.
func (n *Node) abort(rt *runtime) error {
	var errs []error
	if rt.gossip != nil {
		errs = append(errs, rt.gossip.Close())
	}
	if rt.raft != nil {
		errs = append(errs, n.shutdownRaft(rt))
	} else if rt.trans != nil {
		errs = append(errs, rt.trans.Close())
	}
	if rt.grpc != nil {
		rt.grpc.Stop()
		rt.peers.close()
	}
	if rt.mux != nil {
		rt.mux.Close()
	}
	if rt.stores != nil && n.failed.Load() == nil {
		errs = append(errs, rt.stores.Close())
	}
	return errors.Join(errs...)
}

// shutdownTime bounds the wait for Raft: its main loop may hang in a write.
const shutdownTime = 5 * time.Second

func (n *Node) shutdownRaft(rt *runtime) error {
	patience := shutdownTime
	if rt.stores.Watch.Hanging() > n.cfg.StoreQuiet {
		patience = 0
	}
	done := make(chan error, 1)
	future := rt.raft.Shutdown()
	// Raft waits for its replication, which may wait for a peer.
	closed := rt.streams.Close()
	rt.stores.Watch.Release()
	go func() { done <- future.Error() }()
	select {
	case err := <-done:
		// A second Shutdown does not close the transport.
		return errors.Join(err, closed, rt.trans.Close())
	case <-time.After(patience):
		reason := fmt.Sprintf("raft did not stop; a write to the store has been hanging for %s", rt.stores.Watch.Hanging())
		n.failed.CompareAndSwap(nil, &reason)
		return errors.Join(errors.New(reason), closed, rt.trans.Close())
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

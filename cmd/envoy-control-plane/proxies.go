package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// serveXDS serves streams once the node has caught up. A node that finds no
// majority serves the last committed state of its own disk, carefully, until
// it has caught up.
func (s *server) serveXDS(ctx context.Context, ln net.Listener) error {
	if !await(ctx, func() bool { return s.cluster.Ready() || s.cluster.Stale() }) {
		return ln.Close()
	}
	index := s.cluster.State().Index()
	if s.xds.Seen(ctx, index) != nil {
		return ln.Close() // told to stop
	}
	var background sync.WaitGroup
	defer background.Wait()
	if !s.cluster.Ready() {
		s.log.Warn("serving proxies a state that may be stale", "index", index)
		s.xds.ServeStale(index)
		background.Go(func() { s.catchUp(ctx) })
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.xds.Listener(ln)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		s.grpc.Stop()
		return <-served
	}
}

// catchUp ends the serving of a stale state.
func (s *server) catchUp(ctx context.Context) {
	if !await(ctx, s.cluster.Ready) {
		return
	}
	index := s.cluster.State().Index()
	if s.xds.EndStale(ctx, index) == nil { // else told to stop
		s.log.Info("caught up, the state that proxies are served is not stale any more", "index", index)
	}
}

// await waits until something is true; it is not when ctx ends first.
func await(ctx context.Context, what func() bool) bool {
	for !what() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

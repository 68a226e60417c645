package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// leadership is the term that this node leads in, once an entry of that term
// is committed and all before it is applied here.
type leadership struct {
	mu      sync.Mutex
	term    uint64 // 0: not leading
	changed chan struct{}
}

func newLeadership() *leadership { return &leadership{changed: make(chan struct{})} }

func (l *leadership) set(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term {
		return
	}
	l.term = term
	close(l.changed)
	l.changed = make(chan struct{})
}

// get returns the term and a channel that is closed when it changes.
func (l *leadership) get() (term uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.changed
}

// Leadership returns the term in which this node leads, 0 when it does not,
// and a channel that is closed when that changes.
func (n *Node) Leadership() (term uint64, changed <-chan struct{}) { return n.lead.get() }

// WhileLeading calls do each time that the node becomes leader, with a context
// that ends when it is no longer, until ctx ends or do fails while it leads.
func (n *Node) WhileLeading(ctx context.Context, do func(ctx context.Context, term uint64) error) error {
	for {
		term, changed := n.lead.get()
		if term != 0 {
			leading, cancel := context.WithCancel(ctx)
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				select {
				case <-changed:
					cancel()
				case <-leading.Done():
				}
			}()
			err := do(leading, term)
			lost := leading.Err() != nil
			cancel()
			<-stop
			if err != nil && !lost {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// watchLeadership takes over when Raft says so.
func (n *Node) watchLeadership(ctx context.Context) error {
	rt := n.rt.Load()
	if rt == nil {
		return nil // the node has stopped before this began
	}
	relieve := func() {}
	for {
		select {
		case <-ctx.Done():
			relieve()
			n.lead.set(0)
			return nil
		case leads := <-rt.raft.LeaderCh():
			relieve()
			n.lead.set(0)
			if leads {
				relieve = background(ctx, func(ctx context.Context) { n.takeOver(ctx, rt) })
			} else {
				n.log.Info("no longer leader")
			}
		}
	}
}

// background runs do; the returned function ends it.
func background(ctx context.Context, do func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { do(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// stuckAfter is how long Raft may refuse a new leader's first entry because of
// a transfer: it gives one up after the election timeout.
const stuckAfter = 3 * time.Second

// takeOver commits an entry of the own term, and gives a new cluster its
// identity. Raft 1.8.0 may take a transfer that it began in an earlier term, to
// a follower that hung, for one that is still under way: it would refuse
// whatever it is given, as long as it leads, and is started anew.
func (n *Node) takeOver(ctx context.Context, rt *runtime) {
	r, began := rt.raft, time.Now()
	for ctx.Err() == nil {
		term := r.CurrentTerm()
		done := make(chan error, 1)
		go func() { done <- r.Barrier(time.Second).Error() }()
		select {
		case <-ctx.Done():
			return
		case err := <-done:
			if err == nil && r.CurrentTerm() == term && r.State() == raft.Leader {
				n.log.Info("leader", "term", term)
				n.lead.set(term)
				n.nameCluster(ctx, rt)
				n.recordIfQuiet(ctx, rt)
				return
			}
			if errors.Is(err, raft.ErrLeadershipTransferInProgress) && time.Since(began) > stuckAfter {
				n.fail(errStuck)
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// nameCluster proposes the identity of a cluster that has none yet, with the
// backup that it goes on from, if there is one.
func (n *Node) nameCluster(ctx context.Context, rt *runtime) {
	for ctx.Err() == nil && n.State().Identity().GetClusterId() == "" {
		init := &fsmpb.InitCluster{Identity: &fsmpb.Identity{ClusterId: n.ident.ClusterID(), Epoch: randomID(8)}, FeatureLevel: n.newLevel()}
		if seed, err := parseChecksum(n.ident.get().Seed); err == nil {
			if n.findBackup(ctx, seed) == nil {
				return
			}
			init.SeedSha256 = seed[:]
		}
		body, err := proto.Marshal(&fsmpb.Command{By: "cluster", Op: &fsmpb.Command_InitCluster{InitCluster: init}})
		if err == nil {
			var r *fsmpb.Result
			if r, err = rt.proposer.submit(ctx, body); err == nil {
				err = fsm.ResultError(r)
			}
		}
		if err != nil {
			n.log.Warn("cannot give the cluster its identity, trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// levelOf returns the feature level that somebody supports: binaries that say
// nothing of it know the first.
func levelOf(m interface{ GetSupportedLevel() uint32 }) uint32 {
	return max(m.GetSupportedLevel(), fsm.BaseLevel)
}

// foundingLevel is the highest level that all members of a new cluster support.
func foundingLevel(p *clusterpb.Promise) uint32 {
	level := uint32(fsm.SupportedLevel)
	for _, m := range p.GetMembers() {
		level = min(level, levelOf(m))
	}
	return level
}

// newLevel is the level that a cluster without a name gets. A node that was
// started anew meanwhile no longer knows whom it was founded with, and leaves
// it to an operator.
func (n *Node) newLevel() uint32 {
	if p := n.ident.get().Promise; p != nil {
		return foundingLevel(p)
	}
	return max(n.foundedAt.Load(), fsm.BaseLevel) // set before the promise goes
}

// Finalize raises the cluster's feature level to the highest that any server
// supports. It is refused, naming them, while there are servers, voters or not,
// that do not support it or cannot be asked.
func (n *Node) Finalize(ctx context.Context, by string) (result *fsmpb.Result, err error) {
	err = n.onLeader(ctx, func(ctx context.Context, c clusterpb.PeerClient) (*clusterpb.Outcome, error) {
		reply, err := c.Finalize(ctx, &clusterpb.FinalizeRequest{By: by})
		if status.Code(err) == codes.Unimplemented {
			return outcomeOf(fsm.Refusal(fsm.CodeLevelUnsupported, "node %s, which leads, knows of no feature level above %d", n.LeaderID(), fsm.BaseLevel)), nil
		}
		result = reply.GetResult()
		return reply.GetOutcome(), err
	}, func(ctx context.Context) error {
		var err error
		result, err = n.finalizeHere(ctx, by)
		return err
	})
	if err == nil {
		_, err = n.machine.wait(ctx, result.GetIndex())
	}
	return result, err
}

// finalizeHere does it on the leader. The membership stays as it is meanwhile.
func (n *Node) finalizeHere(ctx context.Context, by string) (*fsmpb.Result, error) {
	rt := n.rt.Load()
	if rt == nil || rt.raft.State() != raft.Leader {
		return nil, errNotLeader
	}
	n.membership.Lock()
	defer n.membership.Unlock()
	level, lacking := n.commonLevel(ctx, rt)
	if st := n.State(); level <= st.FeatureLevel() {
		return &fsmpb.Result{Index: st.LevelIndex(), Unchanged: true}, nil
	}
	if len(lacking) > 0 {
		return nil, fsm.Refusal(fsm.CodeLevelUnsupported, "not every node supports feature level %d: %s", level, strings.Join(lacking, ", "))
	}
	body, err := proto.Marshal(&fsmpb.Command{By: by, Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: level}}})
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return rt.proposer.submit(ctx, body)
}

// commonLevel asks every server for the highest level that one supports, and
// says which ones do not.
func (n *Node) commonLevel(ctx context.Context, rt *runtime) (level uint32, lacking []string) {
	servers := rt.servers()
	infos := n.probeAll(ctx, rt, servers)
	for _, info := range infos {
		level = max(level, levelOf(info))
	}
	for _, s := range servers {
		switch info := infos[string(s.ID)]; {
		case info == nil:
			lacking = append(lacking, nodeOf(string(s.ID))+" does not answer")
		case levelOf(info) < level:
			lacking = append(lacking, fmt.Sprintf("%s supports %d", nodeOf(string(s.ID)), levelOf(info)))
		}
	}
	slices.Sort(lacking)
	return level, lacking
}

// finalizeInTime raises the level, on the leader, once all servers have
// supported a higher one for as long as configured. A new leader begins anew.
func (n *Node) finalizeInTime(ctx context.Context) error {
	if n.cfg.FinalizeAfter == 0 {
		return nil
	}
	return n.WhileLeading(ctx, func(ctx context.Context, _ uint64) error {
		var since time.Time
		for pause(ctx, n.cfg.Membership) {
			rt := n.rt.Load()
			if rt == nil || n.State().FeatureLevel() >= n.deps.supports {
				since = time.Time{}
				continue
			}
			level, lacking := n.commonLevel(ctx, rt)
			switch {
			case len(lacking) > 0 || level <= n.State().FeatureLevel():
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			case time.Since(since) >= n.cfg.FinalizeAfter:
				if _, err := n.finalizeHere(ctx, "cluster"); err != nil {
					n.log.Warn("cannot raise the feature level, trying again", "error", err)
				}
			}
		}
		return nil
	})
}

// keepLevel has the disk refuse binaries that do not support the state's level.
// A binary from before RaiseLevel passes over that entry, but not over a
// snapshot's level: so there is a snapshot from behind it, and none before it
// to fall back to.
func (n *Node) keepLevel(ctx context.Context) error {
	for {
		for done := false; !done; {
			err := n.secureLevel()
			if done = err == nil; done {
				break
			}
			n.log.Debug("no snapshot at the feature level yet", "error", err)
			if !pause(ctx, 100*time.Millisecond) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.machine.raised:
		}
	}
}

// secureLevel takes the snapshot that is missing, and drops those before it.
func (n *Node) secureLevel() error {
	rt, from := n.rt.Load(), n.State().LevelIndex()
	if rt == nil || from == 0 {
		return nil
	}
	have, err := rt.stores.NewestSnapshot()
	if err != nil {
		return err
	}
	if have < from {
		if err := rt.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	return rt.stores.DropSnapshotsBefore(from)
}

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
)

// Examination is what a data directory holds.
type Examination struct {
	Dir      string
	Identity *clusterpb.Identity
	*store.Inspection

	// State after every entry of the log, the last ones of which need not be
	// committed. Nil when the log does not go on from a snapshot that holds.
	State *fsm.State
	// LastIndex and LastTerm are those of the log, or of a newer snapshot.
	LastIndex, LastTerm uint64
	// Free bytes of the disk, where that is known.
	Free *uint64
}

// ServerID names the node with its disk.
func (e *Examination) ServerID() string { return e.Identity.NodeId + "/" + e.Identity.Incarnation }

// Examine reads a data directory and changes nothing. An error says that there
// is nothing to read, or that a node is using it; damage is none.
func Examine(dir string) (*Examination, error) {
	e := &Examination{Dir: dir}
	id, err := readIdentity(dir)
	var damage []store.Damage
	switch {
	case errors.Is(err, fs.ErrNotExist) && !store.Exists(dir):
		return nil, fmt.Errorf("%s is not the data directory of a node: it has no %s", dir, identityFile)
	case err != nil:
		damage = append(damage, store.Damage{File: filepath.Join(dir, identityFile), Cause: err.Error(), WayOut: store.WayOut})
		e.Identity = &clusterpb.Identity{}
	default:
		e.Identity = id.get()
	}
	if !store.Exists(dir) && e.Identity.ClusterId == "" {
		e.Inspection = &store.Inspection{Damage: damage} // of a node that has not run yet
		return e, nil
	}
	var k *machine
	e.Inspection, err = store.Inspect(dir, func(i *store.Inspection, entry *raft.Log) {
		if k == nil {
			k = newMachine(slog.New(slog.DiscardHandler), nil, newMetrics(), fsm.SupportedLevel, func(error) {})
			k.begin(func(sum checksum) *fsm.State {
				st, _ := newBackups(dir).state(sum) // without it the state ends there
				return st
			})
			if i.State != nil {
				k.restored(i.State)
			}
		}
		if entry.Index > i.At {
			k.Apply(entry)
		}
	})
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%s is in use by a running node, stop it first: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	e.Damage = append(damage, e.Damage...)
	e.conclude(k)
	return e, nil
}

// conclude says where the data ends.
func (e *Examination) conclude(k *machine) {
	e.LastIndex, e.LastTerm = e.Last, e.Inspection.LastTerm
	for _, s := range e.Snapshots {
		if s.Err == nil && s.Index > e.LastIndex {
			e.LastIndex, e.LastTerm = s.Index, s.Term
		}
	}
	if e.Sound() {
		e.State = e.Inspection.State
		if k != nil {
			e.State = k.state.Load()
		}
	}
	if free, ok := store.Free(e.Dir); ok {
		e.Free = &free
	}
}

// NewerThan reports whether the data ends behind another's, as a vote decides.
func (e *Examination) NewerThan(other *Examination) bool {
	if e.LastTerm != other.LastTerm {
		return e.LastTerm > other.LastTerm
	}
	return e.LastIndex > other.LastIndex
}

// Comparable reports whether two directories hold data of one cluster.
func (e *Examination) Comparable(other *Examination) bool {
	return e.Identity.ClusterId == other.Identity.ClusterId && slices.Equal(e.Identity.Recoveries, other.Identity.Recoveries)
}

// Epoch returns the epoch that the data has come to, "" when that is not known.
func (e *Examination) Epoch() string {
	switch {
	case e.State != nil:
		return e.State.Identity().GetEpoch()
	case e.Inspection.State != nil:
		return e.Inspection.State.Identity().GetEpoch()
	}
	return ""
}

// Member is a server of a Raft configuration.
type Member struct {
	ServerID, Address string
	Voter             bool
}

// Members returns the newest configuration.
func (e *Examination) Members() []Member { return membersOf(e.Configuration.Servers) }

func membersOf(servers []raft.Server) []Member {
	out := make([]Member, 0, len(servers))
	for _, s := range servers {
		_, address := transport.SplitAddress(s.Address)
		out = append(out, Member{string(s.ID), address, s.Suffrage == raft.Voter})
	}
	return out
}

package fsm

import (
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// restoreState takes tenants, fleets, endpoints, secrets and the answers to
// repeated writes from a backup. What is about the present stays: proxies and
// their streams, and the events that the archive has yet to take. A new
// history begins, which goes on from the one before.
func (t *transition) restoreState(c *fsmpb.RestoreState) (*fsmpb.Result, *Error) {
	from, err := t.backupFor(c)
	if err != nil {
		return nil, err
	}
	t.tenants, t.fleets, t.revisions = from.tenants, from.fleets, from.revisions
	t.endpoints, t.secrets, t.memory = from.endpoints, from.secrets, from.memory
	if c.Seed {
		t.seed(from)
	} else {
		t.branchOff(from, c.Epoch)
	}
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_StateRestored{StateRestored: &fsmpb.StateRestored{
		Identity: t.identity, From: from.identity, FromIndex: from.index, FromSeq: from.outbox.seq,
		Sha256: hex.EncodeToString(c.Sha256),
	}}})
	return &fsmpb.Result{}, nil
}

// backupFor returns the state of the backup, if this state may take it.
func (t *transition) backupFor(c *fsmpb.RestoreState) (*State, *Error) {
	var from *State
	if t.backup != nil {
		from = t.backup(c.GetSha256())
	}
	switch {
	case from == nil:
		return nil, Refusal(CodeInvalid, "there is no backup with the SHA-256 %x", c.GetSha256())
	case from.identity == nil:
		return nil, Refusal(CodeInvalid, "the backup belongs to no cluster")
	case from.level > t.level:
		return nil, Refusal(CodeInvalid, "the backup has feature level %d, this cluster %d: finalise it first", from.level, t.level)
	case t.identity == nil:
		return nil, Refusal(CodeInvalid, "the cluster has no identity yet")
	case c.Seed && t.outbox.seq != 1: // that of its identity
		return nil, Refusal(CodeInvalid, "a cluster that is in use cannot be seeded")
	case !c.Seed && c.Epoch == "":
		return nil, Refusal(CodeInvalid, "a restore needs an epoch")
	}
	return from, t.writable()
}

// seed makes a new cluster's history go on from that of the backup. Its
// proxies are known, but connected to nodes of another cluster.
func (t *transition) seed(from *State) {
	t.identity = &fsmpb.Identity{
		ClusterId: t.identity.ClusterId, Epoch: t.identity.Epoch,
		ParentClusterId: from.identity.ClusterId, ParentEpoch: from.identity.Epoch, ParentSeq: from.outbox.seq,
	}
	settings := t.outbox.settings
	t.outbox = from.outbox
	t.outbox.settings = settings
	t.outbox.recount()
	proxies := from.proxies.Txn()
	for p := range from.AllProxies() {
		if len(p.Streams) > 0 {
			row := proto.CloneOf(p)
			row.Streams = nil
			proxies.Insert(key(p.Tenant, p.Id), row)
		}
	}
	t.proxies = proxies.Commit()
}

// branchOff begins a new epoch of the cluster's own history. Its sequences go
// on, those of tenants from whichever is higher.
func (t *transition) branchOff(from *State, epoch string) {
	t.identity = &fsmpb.Identity{
		ClusterId: t.identity.ClusterId, Epoch: epoch, ParentEpoch: t.identity.Epoch, ParentSeq: t.outbox.seq,
	}
	it := from.outbox.tenantSeqs.Root().Iterator()
	for tenant, seq, ok := it.Next(); ok; tenant, seq, ok = it.Next() {
		if have, _ := t.outbox.tenantSeqs.Get(tenant); seq > have {
			t.outbox.tenantSeqs, _, _ = t.outbox.tenantSeqs.Insert(tenant, seq)
		}
	}
}

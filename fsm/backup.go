package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// ReadBackup is ReadSnapshot for a snapshot that is all of r. It returns the
// SHA-256 of its bytes, too.
func ReadBackup(r io.Reader) ([sha256.Size]byte, *State, error) {
	h := sha256.New()
	in := io.TeeReader(r, h)
	st, err := ReadSnapshot(in)
	if err != nil {
		return [sha256.Size]byte{}, nil, err
	}
	if n, err := io.Copy(io.Discard, in); err != nil {
		return [sha256.Size]byte{}, nil, fmt.Errorf("read snapshot: %w", err)
	} else if n > 0 {
		return [sha256.Size]byte{}, nil, fmt.Errorf("read snapshot: %w: %d bytes follow it", ErrDamaged, n)
	}
	return [sha256.Size]byte(h.Sum(nil)), st, nil
}

// restoreState takes the configuration of a backup. What is about the present
// stays: proxies and their streams, and the events that the archive has yet
// to take. A new epoch begins, which goes on from the one before: sequences
// are not given twice, those of tenants go on from whichever is higher.
func (t *transition) restoreState(c *fsmpb.RestoreState) (*fsmpb.Result, *Error) {
	switch {
	case t.identity == nil:
		return nil, Refusal(CodeInvalid, "the cluster has no identity yet")
	case t.readOnly != nil:
		return nil, Refusal(CodeReadOnly, "%s", ReadOnlyReason(t.readOnly))
	case c.GetEpoch() == "":
		return nil, Refusal(CodeInvalid, "a restore needs an epoch")
	}
	from, err := t.backupOf(c.GetSha256())
	if err == nil {
		err = t.writable()
	}
	if err != nil {
		return nil, err
	}
	t.configureFrom(from)
	t.identity = &fsmpb.Identity{
		ClusterId: t.identity.ClusterId, Epoch: c.Epoch, ParentEpoch: t.identity.Epoch, ParentSeq: t.outbox.seq,
	}
	t.outbox.settle()
	it := from.outbox.tenantSeqs.Root().Iterator()
	for tenant, seq, ok := it.Next(); ok; tenant, seq, ok = it.Next() {
		if have, _ := t.outbox.tenantSeqs.Get(tenant); seq > have {
			t.outbox.tenantSeqs, _, _ = t.outbox.tenantSeqs.Insert(tenant, seq)
		}
	}
	t.restored(c.Sha256, from)
	return &fsmpb.Result{}, nil
}

// goOnFrom makes a new cluster's history go on from that of a backup. Its
// proxies are known; their streams were to nodes of another cluster.
func (t *transition) goOnFrom(from *State) {
	t.configureFrom(from)
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

// configureFrom takes over what is not about the present. The answers to
// repeated writes belong to it: what is undone may be done again.
func (t *transition) configureFrom(from *State) {
	t.tenants, t.fleets, t.revisions = from.tenants, from.fleets, from.revisions
	t.endpoints, t.secrets, t.memory = from.endpoints, from.secrets, from.memory
}

// backupOf returns the state of a backup, if this one may go on from it.
func (t *transition) backupOf(sum []byte) (*State, *Error) {
	var from *State
	if t.backup != nil {
		from = t.backup(sum)
	}
	switch {
	case from == nil:
		return nil, Refusal(CodeInvalid, "there is no backup with the SHA-256 %x", sum)
	case from.identity == nil:
		return nil, Refusal(CodeInvalid, "the backup belongs to no cluster")
	case from.level > t.level:
		return nil, Refusal(CodeInvalid, "the backup has feature level %d, this cluster only %d", from.level, t.level)
	}
	return from, nil
}

func (t *transition) restored(sum []byte, from *State) {
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_StateRestored{StateRestored: &fsmpb.StateRestored{
		Identity: t.identity, From: from.identity, FromIndex: from.index, FromSeq: from.outbox.seq,
		Sha256: hex.EncodeToString(sum),
	}}})
}

// Backups returns the checksums of the backups that an entry needs.
func Backups(e *fsmpb.Entry) [][]byte {
	var out [][]byte
	for _, c := range e.GetCommands() {
		switch op := c.GetOp().(type) {
		case *fsmpb.Command_InitCluster:
			if sum := op.InitCluster.GetSeedSha256(); len(sum) > 0 {
				out = append(out, sum)
			}
		case *fsmpb.Command_RestoreState:
			out = append(out, op.RestoreState.GetSha256())
		}
	}
	return out
}

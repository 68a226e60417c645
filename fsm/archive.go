package fsm

import (
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (t *transition) configureArchive(c *fsmpb.ConfigureArchive) (*fsmpb.Result, *Error) {
	settings := proto.CloneOf(c.GetSettings())
	if settings == nil {
		return nil, Refusal(CodeInvalid, "no settings")
	}
	if settings.ReplayWindowMs <= 0 {
		settings.ReplayWindowMs = defaultReplayWindowMs
	}
	if settings.MaxOutboxBytes == 0 {
		settings.MaxOutboxBytes = defaultMaxOutboxBytes
	}
	if proto.Equal(settings, t.outbox.settings) {
		return unchanged(), nil
	}
	t.outbox.settings = settings
	t.outbox.recount()
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_ArchiveConfigured{
		ArchiveConfigured: &fsmpb.ArchiveConfigured{Settings: settings},
	}})
	return &fsmpb.Result{}, nil
}

// ackArchived takes the archive's word for what it has stored.
func (t *transition) ackArchived(c *fsmpb.AckArchived) (*fsmpb.Result, *Error) {
	if c.GetEpoch() != t.identity.GetEpoch() {
		return nil, Refusal(CodeEpochChanged, "the epoch is %q, not %q", t.identity.GetEpoch(), c.GetEpoch())
	}
	if c.ThroughSeq > t.outbox.seq {
		return nil, Refusal(CodeInvalid, "sequence %d has not been given yet", c.ThroughSeq)
	}
	if !t.outbox.settings.Enabled || c.ThroughSeq <= t.outbox.archived {
		return unchanged(), nil
	}
	t.outbox.acknowledge(c.ThroughSeq)
	t.uncollapse()
	return &fsmpb.Result{}, nil
}

// uncollapse emits the present state of proxies whose transitions did not
// fit, as far as there is room again.
func (t *transition) uncollapse() {
	for n := 0; n < maxCollapsedPerArchive && !t.outbox.proxiesFull(); n++ {
		row, ok := first(t.outbox.collapsed, nil)
		if !ok {
			return
		}
		t.outbox.collapsed, _, _ = t.outbox.collapsed.Delete(key(row.TypeUrl, row.Name))
		p, exists := t.Proxy(row.TypeUrl, row.Name)
		t.emit(&fsmpb.Event{Tenant: row.TypeUrl, Fleet: p.GetFleet(), Data: &fsmpb.Event_ProxyCollapsed{
			ProxyCollapsed: &fsmpb.ProxyCollapsed{
				Proxy: row.Name, Connected: len(p.GetStreams()) > 0, Deleted: !exists, Rejections: p.GetRejections(),
			},
		}})
	}
}

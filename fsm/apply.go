package fsm

import (
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Apply returns the state after an entry, the result of each of its commands
// and the events that they caused, in order. It never fails: a command that
// is refused, or that this binary does not know, changes nothing.
//
// The events are part of the returned state and must not be modified.
func (s *State) Apply(index uint64, e *fsmpb.Entry) (*State, []*fsmpb.Result, []*fsmpb.Event) {
	return s.ApplyWith(index, e, nil)
}

// ApplyWith is Apply for who has backups at hand: backup returns the state
// that was read from the one with a checksum. All replicas must be given the
// same; RestoreState is refused without.
func (s *State) ApplyWith(index uint64, e *fsmpb.Entry, backup func(sha256 []byte) *State) (*State, []*fsmpb.Result, []*fsmpb.Event) {
	next := *s
	next.index = index
	next.stamp = max(s.stamp, e.GetStamp())
	t := &transition{State: next, backup: backup}
	results := make([]*fsmpb.Result, len(e.GetCommands()))
	for i, c := range e.GetCommands() {
		results[i] = t.command(c)
	}
	t.outbox.trim(t.stamp)
	t.memory.trim(t.stamp)
	out := t.State
	return &out, results, t.events
}

// transition is a state while an entry is applied to it. Its trees are
// persistent, so that a refused command is undone by taking the old value.
type transition struct {
	State
	by     string
	events []*fsmpb.Event
	backup func(sha256 []byte) *State // may be nil
}

// command applies one command, or recalls what its first time answered.
func (t *transition) command(c *fsmpb.Command) *fsmpb.Result {
	tenant := tenantOf(c)
	keyed := c.GetIdempotency().GetKey() != ""
	if keyed {
		if r := t.memory.recall(tenant, c); r != nil {
			return r
		}
	}
	before, said := t.State, len(t.events)
	t.by = c.GetBy()
	r, refusal := t.perform(c)
	if refusal != nil {
		t.State, t.events = before, t.events[:said]
		r = refusal.result()
	}
	if r.Index == 0 {
		r.Index = t.index
	}
	r.Seq = t.outbox.seq
	if keyed && remembers(r) {
		t.memory.add(&fsmpb.Remembered{
			Tenant: tenant, Subject: c.By, Key: c.Idempotency.Key,
			RequestHash: c.Idempotency.RequestHash, At: t.stamp, Result: r,
		})
	}
	return r
}

// perform dispatches a command. A refusal may leave t half changed.
func (t *transition) perform(c *fsmpb.Command) (*fsmpb.Result, *Error) {
	if RequiredLevel(c) > t.level {
		return nil, errUnknownCommand
	}
	if err := t.refuseTenant(tenantOf(c)); err != nil {
		return nil, err
	}
	switch op := c.GetOp().(type) {
	case *fsmpb.Command_InitCluster:
		return t.initCluster(op.InitCluster)
	case *fsmpb.Command_PutTenant:
		return t.putTenant(op.PutTenant)
	case *fsmpb.Command_DeleteTenant:
		return t.deleteTenant(op.DeleteTenant)
	case *fsmpb.Command_PutFleet:
		return t.putFleet(op.PutFleet)
	case *fsmpb.Command_DeleteFleet:
		return t.deleteFleet(op.DeleteFleet)
	case *fsmpb.Command_ChangeFleet:
		return t.changeFleet(op.ChangeFleet)
	case *fsmpb.Command_RollbackFleet:
		return t.rollbackFleet(op.RollbackFleet)
	case *fsmpb.Command_PutEndpoints:
		return t.putEndpoints(op.PutEndpoints)
	case *fsmpb.Command_DeleteEndpoints:
		return t.deleteEndpoints(op.DeleteEndpoints)
	case *fsmpb.Command_PutSecret:
		return t.putSecret(op.PutSecret)
	case *fsmpb.Command_DeleteSecret:
		return t.deleteSecret(op.DeleteSecret)
	case *fsmpb.Command_ReportProxies:
		return t.reportProxies(op.ReportProxies)
	case *fsmpb.Command_DropNode:
		return t.dropNode(op.DropNode)
	case *fsmpb.Command_DeleteProxy:
		return t.deleteProxy(op.DeleteProxy)
	case *fsmpb.Command_ForgetProxies:
		return t.forgetProxies(op.ForgetProxies)
	case *fsmpb.Command_ConfigureArchive:
		return t.configureArchive(op.ConfigureArchive)
	case *fsmpb.Command_AckArchived:
		return t.ackArchived(op.AckArchived)
	case *fsmpb.Command_RestoreState:
		return t.restoreState(op.RestoreState)
	case *fsmpb.Command_SetReadOnly:
		return t.setReadOnly(op.SetReadOnly)
	case *fsmpb.Command_RaiseLevel:
		return t.raiseLevel(op.RaiseLevel)
	case *fsmpb.Command_RecordMembership:
		return t.recordMembership(op.RecordMembership)
	}
	return nil, errUnknownCommand
}

var errUnknownCommand = Refusal(CodeInvalid, "unknown command")

// tenantOf returns the tenant that a command is about, "" for the cluster.
func tenantOf(c *fsmpb.Command) string {
	switch op := c.GetOp().(type) {
	case *fsmpb.Command_PutTenant:
		return op.PutTenant.GetName()
	case *fsmpb.Command_DeleteTenant:
		return op.DeleteTenant.GetName()
	case *fsmpb.Command_PutFleet:
		return op.PutFleet.GetTenant()
	case *fsmpb.Command_DeleteFleet:
		return op.DeleteFleet.GetTenant()
	case *fsmpb.Command_ChangeFleet:
		return op.ChangeFleet.GetTenant()
	case *fsmpb.Command_RollbackFleet:
		return op.RollbackFleet.GetTenant()
	case *fsmpb.Command_PutEndpoints:
		return op.PutEndpoints.GetTenant()
	case *fsmpb.Command_DeleteEndpoints:
		return op.DeleteEndpoints.GetTenant()
	case *fsmpb.Command_PutSecret:
		return op.PutSecret.GetTenant()
	case *fsmpb.Command_DeleteSecret:
		return op.DeleteSecret.GetTenant()
	case *fsmpb.Command_DeleteProxy:
		return op.DeleteProxy.GetTenant()
	}
	return ""
}

// emit completes an event and puts it into the outbox.
func (t *transition) emit(ev *fsmpb.Event) {
	ev.Index, ev.At, ev.By = t.index, t.stamp, t.by
	t.outbox.add(ev)
	t.events = append(t.events, ev)
}

// unchanged answers a command that found the state as it asked for.
func unchanged() *fsmpb.Result { return &fsmpb.Result{Unchanged: true} }

// writable refuses a configuration write while the outbox is full.
func (t *transition) writable() *Error {
	if !t.outbox.full() {
		return nil
	}
	return Refusal(CodeOutboxFull,
		"the archive is behind: %d bytes of events wait for it; writes are refused until it has taken some",
		t.outbox.pending)
}

func (t *transition) initCluster(c *fsmpb.InitCluster) (*fsmpb.Result, *Error) {
	if t.identity != nil {
		return unchanged(), nil
	}
	if c.GetIdentity().GetClusterId() == "" || c.GetIdentity().GetEpoch() == "" {
		return nil, Refusal(CodeInvalid, "a cluster needs an id and an epoch")
	}
	if err := supported(c.FeatureLevel); err != nil {
		return nil, err
	}
	t.identity = c.Identity
	t.setLevel(c.FeatureLevel)
	var from *State
	if seed := c.GetSeedSha256(); len(seed) > 0 {
		var err *Error
		if from, err = t.backupOf(seed); err != nil {
			return nil, err
		}
		t.goOnFrom(from)
	}
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_ClusterInitialized{
		ClusterInitialized: &fsmpb.ClusterInitialized{Identity: t.identity},
	}})
	if from != nil {
		t.restored(c.SeedSha256, from)
	}
	return &fsmpb.Result{Created: true}, nil
}

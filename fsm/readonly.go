package fsm

import (
	"time"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// ReadOnly says since when and why the cluster refuses what tenants write,
// nil while it does not.
func (s *State) ReadOnly() *fsmpb.ReadOnly { return s.readOnly }

// WithoutReadOnly returns the state as it is while tenants may write: for
// trying a write out, and for a backup, which must not make the cluster that
// takes it up read-only.
func (s *State) WithoutReadOnly() *State {
	out := *s
	out.readOnly = nil
	return &out
}

// setReadOnly takes effect behind itself: a write before it in the same entry
// has passed.
func (t *transition) setReadOnly(c *fsmpb.SetReadOnly) (*fsmpb.Result, *Error) {
	switch {
	case c.GetReadOnly() && t.readOnly != nil:
		return &fsmpb.Result{Unchanged: true, Index: t.readOnly.Index}, nil
	case c.GetReadOnly():
		t.readOnly = &fsmpb.ReadOnly{Index: t.index, Since: t.stamp, By: t.by, Message: c.Message}
	case t.readOnly == nil:
		return unchanged(), nil
	default:
		t.readOnly = nil
	}
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_ReadOnlySet{
		ReadOnlySet: &fsmpb.ReadOnlySet{ReadOnly: c.ReadOnly, Message: c.Message},
	}})
	return &fsmpb.Result{}, nil
}

// refuseTenant refuses a tenant's command while the cluster is read-only, also
// one that would change nothing: no later write is acknowledged. What belongs
// to no tenant ("") keeps the cluster going and passes.
func (t *transition) refuseTenant(tenant string) *Error {
	if tenant == "" || t.readOnly == nil {
		return nil
	}
	return Refusal(CodeReadOnly, "%s", ReadOnlyReason(t.readOnly))
}

// ReadOnlyReason says it to people.
func ReadOnlyReason(r *fsmpb.ReadOnly) string {
	reason := "the cluster is read-only since " + time.Unix(0, r.GetSince()).UTC().Format(time.RFC3339)
	if r.GetBy() != "" {
		reason += " by " + r.By
	}
	if r.GetMessage() != "" {
		reason += ": " + r.Message
	}
	return reason
}

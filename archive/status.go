package archive

import (
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// States of the archive.
const (
	StateOK      = "ok"
	StateLagging = "lagging"
	StateDown    = "down"
)

// Status is how the archive is doing, as this node sees it.
type Status struct {
	// State is "ok"; "lagging" while an event has waited for long; "down"
	// while this node leads and cannot write.
	State string
	// LastSeq is the last event's sequence, ArchivedSeq the last one that is
	// stored: drained when they are equal.
	LastSeq, ArchivedSeq uint64
	// OutboxBytes is the size of the events that wait.
	OutboxBytes uint64
	// Lag is how long the oldest of them has waited.
	Lag time.Duration
	// Error says why it is down.
	Error string
}

// Status reports on the replicated state and on this node's writer.
func (a *Archive) Status() Status {
	st := a.cluster.State()
	out := Status{
		State: StateOK, LastSeq: st.Seq(), ArchivedSeq: st.ArchivedSeq(),
		OutboxBytes: st.OutboxBytes(), Lag: lag(st, time.Now()),
	}
	if out.Lag > a.cfg.LagAfter {
		out.State = StateLagging
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault != nil {
		out.State, out.Error = StateDown, a.fault.Error()
	}
	return out
}

// lag is the age of the oldest event that is not stored.
func lag(st *fsm.State, now time.Time) time.Duration {
	if at, waits := st.Unarchived(); waits {
		return max(0, now.Sub(time.Unix(0, at)))
	}
	return 0
}

// Report is what this node's writer says of itself; that of the leader counts.
func (a *Archive) Report() *fsmpb.ArchiveReport {
	out := &fsmpb.ArchiveReport{
		RetentionMs: a.cfg.Retention.Milliseconds(), MonthsAhead: uint32(a.cfg.MonthsAhead),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault != nil {
		out.Reason = a.fault.Error()
	}
	if a.lastError != nil {
		out.LastError, out.LastErrorAt = a.lastError.Error(), a.lastErrorAt.UnixNano()
	}
	return out
}

// erred counts and remembers a failure.
func (a *Archive) erred(err error) {
	a.metrics.errors.Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastError, a.lastErrorAt = err, time.Now()
}

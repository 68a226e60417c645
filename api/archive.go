package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// archiveState is how the archive does: as this node sees it and, when that one
// does not write, as the leader says.
func (s *Server) archiveState(leader *fsmpb.ArchiveReport) (state, reason string) {
	state = wire.ArchiveOff
	if s.deps.Archive != nil {
		state, reason = s.deps.Archive()
	}
	if leader.GetReason() != "" {
		return wire.ArchiveDown, leader.GetReason()
	}
	return state, reason
}

// getArchive tells what it can: the state's part always, the leader's and the
// database's when they answer.
func getArchive(s *Server, c *call, st *fsm.State) (any, error) {
	r, err := s.deps.Cluster.Report(c.ctx)
	if err != nil {
		return nil, err
	}
	now, leader := time.Now(), r.GetArchive()
	out := &wire.Archive{
		LastSeq: st.Seq(), ArchivedSeq: st.ArchivedSeq(), Outbox: outboxJSON(st),
		RetentionSeconds: uint64(leader.GetRetentionMs() / 1000), MonthsAhead: leader.GetMonthsAhead(), Alarms: []string{},
	}
	out.State, out.Reason = s.archiveState(leader)
	if at, waits := st.Unarchived(); waits && st.Archive().GetEnabled() {
		out.LagSeconds = max(0, now.Sub(time.Unix(0, at)).Seconds())
	}
	if leader.GetLastErrorAt() != 0 {
		out.LastError = &wire.ArchiveError{At: time.Unix(0, leader.GetLastErrorAt()).UTC(), Error: leader.GetLastError()}
	}
	out.Database, out.DatabaseError = s.inventory(c)
	if out.Database != nil && leader != nil {
		out.NextMade, out.NextDropped = nextMonths(out)
	}
	out.Alarms = append(out.Alarms, alarms(out, now)...)
	return out, nil
}

// maxInventory is how long the database may take to say what it has.
const maxInventory = 5 * time.Second

func (s *Server) inventory(c *call) (*wire.ArchiveDatabase, string) {
	if s.deps.Archived == nil {
		return nil, "this node has no database"
	}
	ctx, cancel := context.WithTimeout(c.ctx, maxInventory)
	defer cancel()
	out, err := s.deps.Archived.Inventory(ctx)
	if err != nil {
		s.log.Warn("archive does not answer", "request_id", c.id, "error", err)
		return nil, err.Error()
	}
	return out, ""
}

func outboxJSON(st *fsm.State) wire.ArchiveOutbox {
	settings := st.Archive()
	return wire.ArchiveOutbox{
		Bytes: st.OutboxBytes(), MaxBytes: settings.GetMaxOutboxBytes(),
		ProxyBytes: st.OutboxProxyBytes(), MaxProxyBytes: settings.GetMaxOutboxBytes() / 2,
		CollapsedProxies: st.CollapsedProxies(), Overflow: strings.ToLower(settings.GetOverflow().String()),
		ReplayWindowSeconds: float64(settings.GetReplayWindowMs()) / 1000, FirstSeq: st.FirstSeq(),
	}
}

const monthFormat = "2006-01"

// nextMonths are the month after the newest that all tables have, and the oldest
// that one has. A table with partitions of days has other times.
func nextMonths(a *wire.Archive) (made, dropped *wire.ArchiveMonth) {
	var newest, oldest time.Time
	for i, t := range a.Database.Tables {
		if slices.ContainsFunc(t.Partitions, ofDay) {
			continue
		}
		var last time.Time
		for _, p := range t.Partitions {
			if p.To == nil {
				continue
			}
			if p.To.After(last) {
				last = *p.To
			}
			if oldest.IsZero() || p.To.Before(oldest) {
				oldest = *p.To
			}
		}
		if i == 0 || last.Before(newest) {
			newest = last
		}
	}
	if !newest.IsZero() {
		made = &wire.ArchiveMonth{Month: newest.Format(monthFormat), At: newest.AddDate(0, -int(a.MonthsAhead), 0)}
	}
	if !oldest.IsZero() && a.RetentionSeconds > 0 {
		dropped = &wire.ArchiveMonth{
			Month: oldest.AddDate(0, -1, 0).Format(monthFormat), At: oldest.Add(time.Duration(a.RetentionSeconds) * time.Second),
		}
	}
	return made, dropped
}

func ofDay(p wire.ArchivePartition) bool {
	return p.From != nil && p.To != nil && p.To.Sub(*p.From) <= 24*time.Hour
}

// freshGap is how long a gap is news; it stays in the record for ever.
const freshGap = 7 * 24 * time.Hour

// lateMonths is how long after its time a month's partition may be missing.
const lateMonths = 2 * time.Hour

// alarms are what somebody should look at.
func alarms(a *wire.Archive, now time.Time) (out []string) {
	alarm := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a.State == wire.ArchiveDown {
		alarm("events are not stored: %s", a.Reason)
	}
	if o := a.Outbox; o.MaxBytes > 0 && o.Bytes > o.MaxBytes/2 {
		alarm("the outbox is more than half full: %d of %d bytes", o.Bytes, o.MaxBytes)
	}
	if n := a.Outbox.CollapsedProxies; n > 0 {
		alarm("transitions of %d proxies did not fit into the outbox", n)
	}
	if a.DatabaseError != "" && a.State != wire.ArchiveOff {
		alarm("the database tells nothing: %s", a.DatabaseError)
	}
	if a.Database == nil {
		return out
	}
	if at := a.Database.LastGapAt; at != nil && now.Sub(*at) < freshGap {
		alarm("events were gone before they could be stored, noticed at %s", at.Format(time.RFC3339))
	}
	if n := a.Database.Quarantined; n > 0 {
		alarm("%d events are set aside, Postgres refuses them", n)
	}
	for _, t := range a.Database.Tables {
		if t.DefaultRows > 0 {
			alarm("%d rows of %s fit in no partition", t.DefaultRows, t.Name)
		}
	}
	if m := a.NextMade; m != nil && now.After(m.At.Add(lateMonths)) {
		alarm("the partitions of %s should have been made at %s", m.Month, m.At.Format(time.RFC3339))
	}
	if m := a.NextDropped; m != nil && now.After(m.At.Add(lateMonths)) {
		alarm("the partitions of %s should have been dropped at %s", m.Month, m.At.Format(time.RFC3339))
	}
	return out
}

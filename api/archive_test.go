package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (s *shelf) Inventory(context.Context) (*wire.ArchiveDatabase, error) {
	return s.inventory, s.err
}

func part(name string, from time.Time) wire.ArchivePartition {
	return wire.ArchivePartition{Name: name, From: &from, To: new(from.AddDate(0, 1, 0)), Rows: 5, Bytes: 8192}
}

// stored is a database with two months of one table, and one of them of another.
func stored() *wire.ArchiveDatabase {
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return &wire.ArchiveDatabase{
		Cursor: &wire.ArchiveCursor{Seq: 3, Term: 2, Node: "n1", UpdatedAt: now}, ReportsAsOf: &now,
		Tables: []wire.ArchiveTable{
			{Name: "fleet_events", Partitions: []wire.ArchivePartition{
				part("fleet_events_a", month.AddDate(0, -1, 0)), part("fleet_events_b", month), {Name: "fleet_events_default"},
			}},
			{Name: "endpoint_changes", Partitions: []wire.ArchivePartition{part("endpoint_changes_b", month)}},
			{Name: "proxy_metrics", Partitions: []wire.ArchivePartition{
				{Name: "proxy_metrics_a", From: new(month.AddDate(0, -2, 0)), To: new(month.AddDate(0, -2, 1))},
			}},
		},
	}
}

const archivePath = "/api/v1/cluster/archive"

func TestArchive(t *testing.T) {
	s := &shelf{inventory: stored()}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) {
		d.Archived, d.Archive = s, func() (state, reason string) { return wire.ArchiveOK, "" }
	})
	r.node.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_ConfigureArchive{ConfigureArchive: &fsmpb.ConfigureArchive{
		Settings: &fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 1000, ReplayWindowMs: 1500},
	}}})
	r.node.archive = &fsmpb.ArchiveReport{RetentionMs: 86_400_000, MonthsAhead: 0, LastError: "it was away", LastErrorAt: 1e18}
	got := decoded[wire.Archive](r.get(archivePath), 200)
	st := r.node.State()
	if got.State != wire.ArchiveOK || got.LastSeq != st.Seq() || got.ArchivedSeq != 0 || got.LagSeconds <= 0 || got.Outbox.Bytes == 0 ||
		got.Outbox.MaxBytes != 1000 || got.Outbox.MaxProxyBytes != 500 || got.Outbox.Overflow != "block" || got.Outbox.ReplayWindowSeconds != 1.5 {
		t.Errorf("%+v", got)
	}
	if got.LastError == nil || got.LastError.Error != "it was away" || got.RetentionSeconds != 86_400 || got.Database.Cursor.Seq != 3 {
		t.Errorf("%+v", got)
	}
	this := *s.inventory.Tables[0].Partitions[1].From
	if m := got.NextMade; m == nil || m.Month != this.AddDate(0, 1, 0).Format("2006-01") || !m.At.Equal(this.AddDate(0, 1, 0)) {
		t.Errorf("next made %+v", m)
	}
	if m := got.NextDropped; m == nil || m.Month != this.AddDate(0, -1, 0).Format("2006-01") || !m.At.Equal(this.AddDate(0, 0, 1)) {
		t.Errorf("next dropped %+v", m)
	}
}

// TestArchiveAlarms: what is wrong is said, and what can be told is.
func TestArchiveAlarms(t *testing.T) {
	s := &shelf{inventory: stored()}
	state, reason := wire.ArchiveOK, ""
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) {
		d.Archived, d.Archive = s, func() (string, string) { return state, reason }
	})
	r.node.archive = &fsmpb.ArchiveReport{MonthsAhead: 1}
	alarms := func(want ...string) wire.Archive {
		t.Helper()
		got := decoded[wire.Archive](r.get(archivePath), 200)
		if len(got.Alarms) != len(want) {
			t.Fatalf("alarms %q, want %q", got.Alarms, want)
		}
		for i, w := range want {
			if !strings.Contains(got.Alarms[i], w) {
				t.Errorf("alarm %q, want %q", got.Alarms[i], w)
			}
		}
		return got
	}
	s.inventory.Gaps, s.inventory.GapEvents, s.inventory.LastGapAt, s.inventory.Tables[1].DefaultRows = 1, 7, new(time.Now()), 9
	s.inventory.Quarantined = 2
	late := "should have been made"
	if time.Now().UTC().Day() == 1 && time.Now().UTC().Hour() < 3 {
		s.inventory.Tables[1].Partitions = s.inventory.Tables[0].Partitions[:1] // the month before
	}
	alarms("events were gone", "2 events are set aside", "9 rows of endpoint_changes fit in no partition", late)

	// The leader, another node, cannot write, and the database is away.
	r.node.archive.Reason, s.err = "connection refused", errors.New("dial: refused")
	got := alarms("events are not stored: connection refused", "the database tells nothing: dial: refused")
	if got.State != wire.ArchiveDown || got.Database != nil || got.NextMade != nil {
		t.Errorf("%+v", got)
	}
	if c := decoded[wire.Cluster](r.get("/api/v1/cluster"), 200); c.Archive.State != wire.ArchiveDown || c.Archive.Reason != "connection refused" {
		t.Errorf("%+v", c.Archive)
	}
}

func TestArchiveOff(t *testing.T) {
	got := decoded[wire.Archive](newRig(t).get(archivePath), 200)
	if got.State != wire.ArchiveOff || got.Database != nil || got.DatabaseError != "this node has no database" || len(got.Alarms) != 0 || got.LagSeconds != 0 {
		t.Errorf("%+v", got)
	}
}

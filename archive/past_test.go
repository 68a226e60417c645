package archive_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestPastRevisionsComeBack(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	want := map[uint64]*fsm.Revision{}
	keep := func() {
		r, _ := l.State().Revision("default", "edge", 0)
		want[r.Info.Revision] = r
	}
	build := func() {
		for i := range 30 {
			a, b := cluster(fmt.Sprint("c", i%7), fmt.Sprint(i)), cluster("always", fmt.Sprint(i))
			b.Aliases, b.TtlMs = []string{"x", "y"}, int64(i)
			b.Hash = fsm.ResourceHash(b.Body, b.Aliases, b.TtlMs)
			l.change("edge", []*fsmpb.Resource{a, b}, &fsmpb.ResourceKey{TypeUrl: fsm.TypeCluster, Name: fmt.Sprint("c", (i+3)%7)})
			keep()
		}
		l.do(&fsmpb.Command{By: "ann", Op: &fsmpb.Command_RollbackFleet{RollbackFleet: &fsmpb.RollbackFleet{Tenant: "default", Fleet: "edge", To: 3}}})
		keep()
	}
	build()
	w := l.start(dsn, 1)
	l.drained()
	check := func(w *writer) {
		t.Helper()
		for n, r := range want {
			got, err := w.Revision(t.Context(), "default", "edge", n)
			if err != nil {
				t.Fatalf("revision %d: %v", n, err)
			}
			if diff := fsm.Diff(r, got); len(diff) > 0 || got.Len(fsm.TypeCluster) != r.Len(fsm.TypeCluster) {
				t.Fatalf("revision %d differs: %v", n, diff)
			}
			if got.Info.Index != r.Info.Index || got.Info.RollbackOf != r.Info.RollbackOf || len(got.Info.Changed) != len(r.Info.Changed) || got.Info.Message != r.Info.Message {
				t.Fatalf("revision %d: %v, want %v", n, got.Info, r.Info)
			}
			always, _ := got.Resource(fsm.TypeCluster, "always")
			if !slices.Equal(always.Aliases, []string{"x", "y"}) {
				t.Fatalf("revision %d: %v", n, always)
			}
		}
	}
	check(w)
	for name, n := range map[string]uint64{"none": 0, "to come": 32} {
		if _, err := w.Revision(t.Context(), "default", "edge", n); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A fleet of the same name begins anew.
	l.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{DeleteFleet: &fsmpb.DeleteFleet{Tenant: "default", Name: "edge"}}})
	l.drained()
	check(w)
	l.putFleet("default", "edge", "ann")
	l.change("edge", []*fsmpb.Resource{cluster("new", "1")})
	l.drained()
	if r, err := w.Revision(t.Context(), "default", "edge", 1); err != nil || r.Len(fsm.TypeCluster) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	// What is missing is not made up for.
	d := open(t, dsn)
	d.run("INSERT INTO archive_gaps (cluster, epoch, from_seq, to_seq, node) SELECT 'c', 'e', seq, seq, '' FROM fleet_revisions WHERE revision = 10")
	if _, err := w.Revision(t.Context(), "default", "edge", 20); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
		t.Fatalf("behind a gap: %v", err)
	}
	if _, err := w.Revision(t.Context(), "default", "edge", 9); err != nil {
		t.Fatal(err)
	}
}

// After a restore, a revision is made of those that led to the backup and not
// of those between it and the restore.
func TestPastRevisionsBehindARestore(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), raised(t, "c", "e", time.Now())
	w := l.start(dsn, 1)
	l.putFleet("default", "edge", "ann")
	for i := range 3 {
		l.change("edge", []*fsmpb.Resource{cluster(fmt.Sprint("kept", i), "1")})
	}
	backup := l.State()
	for i := range 3 {
		l.change("edge", []*fsmpb.Resource{cluster(fmt.Sprint("lost", i), "1")})
	}
	l.drained()
	w.stop()
	l.restore(backup, "e2")
	l.change("edge", []*fsmpb.Resource{cluster("new", "1")})
	l.change("edge", []*fsmpb.Resource{cluster("new", "2")})
	w = l.start(dsn, 2)
	l.drained()
	for n, want := range map[uint64]int{2: 2, 3: 3, 4: 4, 5: 4} {
		want2, _ := l.State().Revision("default", "edge", n)
		got, err := w.Revision(t.Context(), "default", "edge", n)
		if err != nil || got.Len(fsm.TypeCluster) != want || len(fsm.Diff(want2, got)) != 0 {
			t.Errorf("revision %d: %v, %v", n, fsm.Diff(want2, got), err)
		}
	}
	if _, err := w.Revision(t.Context(), "default", "edge", 6); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
		t.Errorf("a revision that was restored away: %v", err)
	}
}

// restore has the state restored from a backup.
func (l *log) restore(backup *fsm.State, epoch string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamp = l.stamp.Add(time.Millisecond)
	sum := make([]byte, 32)
	st, results, _ := l.st.ApplyWith(l.st.Index()+1, &fsmpb.Entry{Stamp: l.stamp.UnixNano(), Commands: []*fsmpb.Command{{
		Op: &fsmpb.Command_RestoreState{RestoreState: &fsmpb.RestoreState{Sha256: sum, Epoch: epoch}},
	}}}, func([]byte) *fsm.State { return backup })
	if err := fsm.ResultError(results[0]); err != nil {
		l.t.Fatal(err)
	}
	l.st = st
}

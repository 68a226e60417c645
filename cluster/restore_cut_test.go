package cluster

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// moments calls somebody at the steps that the entry of a restore goes through.
type moments struct {
	mu sync.Mutex
	at func(step string, site int)
}

func (m *moments) set(at func(step string, site int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = at
}

func (m *moments) come(step string, site int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at != nil {
		m.at(step, site)
	}
}

// momentLog is the log of one site.
type momentLog struct {
	raft.LogStore
	*moments
	site int
}

func (l momentLog) StoreLogs(entries []*raft.Log) error {
	restores := false
	for _, e := range entries {
		entry := &fsmpb.Entry{}
		restores = restores || (e.Type == raft.LogCommand && proto.Unmarshal(e.Data, entry) == nil && len(fsm.Backups(entry)) > 0)
	}
	if restores {
		l.come("to be stored", l.site)
	}
	err := l.LogStore.StoreLogs(entries)
	if restores {
		l.come("stored", l.site)
	}
	return err
}

func (l momentLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// momentObserver is told what one site applies.
type momentObserver struct {
	*moments
	site int
}

func (o momentObserver) Applied(_ *fsm.State, events []*fsmpb.Event) {
	if events == nil {
		o.come("applied", o.site)
	}
}

// A leader that is cut off at any step of a restore, and goes on: all nodes
// have the old state afterwards, or all have the new one, as Raft has it.
func TestRestoreByALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	w, m := newNetwork(), &moments{}
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		w.plug(i, c, d)
		d.slowLog = func(s raft.LogStore) raft.LogStore { return momentLog{s, m, i} }
		d.Observers = []Observer{momentObserver{m, i}}
	})
	upAll(sites)
	awaitReady(t, sites...)
	propose(t, sites[0].node, "kept")
	old := backup(t, sites[0].node)
	const onLeader, onFollower = true, false
	for i, c := range []cutStep{
		{"staged", onLeader, false},
		{"staged", onFollower, false},
		{"to be stored", onLeader, false},
		{"stored", onLeader, false},
		// The follower that has the entry is the only one that can be elected.
		{"to be stored", onFollower, true},
		{"stored", onFollower, true},
		{"applied", onLeader, true},
		{"applied", onFollower, true},
	} {
		tries := 0
		for ; tries < 5 && !c.cut(t, w, m, sites, old, fmt.Sprintf("undone-%d-%d", i, tries)); tries++ {
			t.Logf("%+v: not cut, the leader has changed before", c)
		}
		if tries == 5 {
			t.Errorf("%+v: it never came to that", c)
		}
	}
}

// cutStep is where the leader is cut off.
type cutStep struct {
	step     string
	leader   bool // whose step it is
	switches bool // what must come of the restore
}

// cut cuts the leader off once it comes to the step; false when it did not.
func (c cutStep) cut(t *testing.T, w *network, m *moments, sites []*site, old []byte, name string) bool {
	propose(t, sites[0].node, name)
	epoch := sameState(t, sites)
	lead := leader(t, sites)
	come := func(step string, onLeader bool) {
		if step == c.step && onLeader == c.leader && w.whole() {
			w.split(at(sites, lead))
		}
	}
	m.set(func(step string, site int) { come(step, site == at(sites, lead)) })
	err := restoreBy(t, lead.node, old, come)
	for deadline := time.Now().Add(5 * time.Second); w.whole() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // the followers apply later
	}
	m.set(nil)
	if w.whole() {
		return false
	}
	leader(t, others(sites, lead)) // what the old one says counts no more
	w.heal()
	awaitReady(t, sites...)
	switched := sameState(t, sites) != epoch
	if switched != c.switches {
		t.Errorf("%+v: the state was switched: %v", c, switched)
	}
	if code := fsm.CodeOf(err); switched && err != nil && code != fsm.CodeOutcomeUnknown {
		t.Errorf("%+v: applied, after it was said not to be: %v", c, err)
	}
	if err == nil && !switched {
		t.Errorf("%+v: a restore that was acknowledged is lost", c)
	}
	for _, s := range sites {
		if hasTenant(s.node, name) == switched || !hasTenant(s.node, "kept") {
			t.Errorf("%+v: %s has something of both", c, s.cfg.NodeID)
		}
	}
	return true
}

// restoreBy restores a backup on a node that leads, and says which step it has
// come to.
func restoreBy(t *testing.T, n *Node, b []byte, come func(step string, leader bool)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	sum, _, err := n.StageBackup(bytes.NewReader(b))
	must(t, err)
	come("staged", true)
	if err := n.SpreadBackup(ctx, sum); err != nil {
		return err
	}
	come("staged", false)
	r, err := n.Propose(ctx, &fsmpb.Command{By: "test", Op: &fsmpb.Command_RestoreState{
		RestoreState: &fsmpb.RestoreState{Sha256: sum[:], Epoch: randomID(8)},
	}})
	if err == nil {
		err = fsm.ResultError(r)
	}
	return err
}

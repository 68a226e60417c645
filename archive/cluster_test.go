package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// log is a cluster without nodes: one state that commands are applied to.
type log struct {
	t *testing.T

	mu        sync.Mutex
	st        *fsm.State
	stamp     time.Time
	observers []*archive.Archive
	refuse    func(*fsmpb.Command) error
	batch     uint64
}

func newLog(t *testing.T, cluster, epoch string) *log { return newLogAt(t, cluster, epoch, time.Now()) }

// newLogAt returns a cluster whose log begins at a time.
func newLogAt(t *testing.T, cluster, epoch string, stamp time.Time) *log {
	l := &log{t: t, st: fsm.New(), stamp: stamp}
	l.do(&fsmpb.Command{By: "cluster", Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: cluster, Epoch: epoch},
	}}})
	return l
}

func (l *log) State() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

func (l *log) Propose(_ context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	l.mu.Lock()
	if l.refuse != nil {
		if err := l.refuse(c); err != nil {
			l.mu.Unlock()
			return nil, err
		}
	}
	l.stamp = l.stamp.Add(time.Millisecond)
	st, results, events := l.st.Apply(l.st.Index()+1, &fsmpb.Entry{Stamp: l.stamp.UnixNano(), Commands: []*fsmpb.Command{c}})
	l.st = st
	observers := l.observers
	l.mu.Unlock()
	for _, a := range observers {
		a.Applied(st, events)
	}
	return results[0], nil
}

// do proposes what must be applied.
func (l *log) do(c *fsmpb.Command) *fsmpb.Result {
	l.t.Helper()
	r, err := l.Propose(context.Background(), c)
	if err = errors.Join(err, fsm.ResultError(r)); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *log) putFleet(tenant, name, by string) {
	l.t.Helper()
	l.do(&fsmpb.Command{By: by, Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{
		Tenant: tenant, Name: name, Labels: map[string]string{"n": fmt.Sprint(l.State().Index())},
	}}})
}

func (l *log) change(fleet string, upsert []*fsmpb.Resource, remove ...*fsmpb.ResourceKey) {
	l.t.Helper()
	l.do(&fsmpb.Command{By: "ann", Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: fleet, Upsert: upsert, Delete: remove, Message: "why", Force: true,
	}}})
}

func (l *log) report(reports ...*fsmpb.ProxyReport) {
	l.t.Helper()
	l.batch++
	l.do(&fsmpb.Command{By: "xds", Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "n1", NodeStart: 1, Batch: l.batch, Reports: reports,
	}}})
}

func (l *log) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamp = l.stamp.Add(d)
}

func cluster(name string, body string) *fsmpb.Resource {
	return &fsmpb.Resource{
		TypeUrl: fsm.TypeCluster, Name: name, Body: []byte(body), Hash: fsm.ResourceHash([]byte(body), nil, 0),
	}
}

// branch returns another log that goes on from this one's present state under
// another identity, as a cluster seeded from a backup does.
func (l *log) branch(id *fsmpb.Identity) *log {
	l.t.Helper()
	var in, out bytes.Buffer
	if err := l.State().WriteSnapshot(&in); err != nil {
		l.t.Fatal(err)
	}
	out.Write(in.Next(16)) // magic
	for done := false; !done; {
		var r fsmpb.Record
		if err := protodelim.UnmarshalFrom(&in, &r); err != nil {
			l.t.Fatal(err)
		}
		if h := r.GetHeader(); h != nil {
			h.Identity = id
		}
		done = r.GetFooter() != nil
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&r)
		if err != nil {
			l.t.Fatal(err)
		}
		out.Write(binary.AppendUvarint(nil, uint64(len(data))))
		out.Write(data)
	}
	sum := sha256.Sum256(out.Bytes())
	out.Write(sum[:])
	st, err := fsm.ReadSnapshot(&out)
	if err != nil {
		l.t.Fatal(err)
	}
	return &log{t: l.t, st: st, stamp: l.stamp, batch: l.batch}
}

// node is one node's view of the log.
type node struct {
	*log
	mu     sync.Mutex
	leader bool
	term   uint64
}

func (n *node) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader
}

func (n *node) Term() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.term
}

func (n *node) lead(leader bool, term uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leader, n.term = leader, term
}

// writer is an archive that runs.
type writer struct {
	*archive.Archive
	*node
	stop func()
}

type option func(*archive.Config, *archive.Deps, *archive.Archive)

// start runs an archive on a node that leads in a term.
func (l *log) start(url string, term uint64, options ...option) *writer {
	l.t.Helper()
	n := &node{log: l, leader: true, term: term}
	cfg := archive.Config{
		DatabaseURL: url, Node: fmt.Sprint("node-", term), Linger: time.Millisecond, CheckEvery: 50 * time.Millisecond,
	}
	deps := archive.Deps{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: n}
	for _, o := range options {
		o(&cfg, &deps, nil)
	}
	a, err := archive.New(cfg, deps)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, o := range options {
		o(&archive.Config{}, &archive.Deps{}, a)
	}
	l.mu.Lock()
	l.observers = append(l.observers, a)
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w := &writer{Archive: a, node: n}
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				l.t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			l.t.Error("Run does not return")
		}
	})
	l.t.Cleanup(w.stop)
	return w
}

func at(f func(string) error) option {
	return func(_ *archive.Config, _ *archive.Deps, a *archive.Archive) {
		if a != nil {
			a.At(f)
		}
	}
}

func with(f func(*archive.Config)) option {
	return func(c *archive.Config, _ *archive.Deps, _ *archive.Archive) { f(c) }
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// drained waits until all events are stored and acknowledged.
func (l *log) drained() {
	l.t.Helper()
	eventually(l.t, "the outbox drains", func() bool {
		st := l.State()
		return st.Archive().GetEnabled() && st.ArchivedSeq() == st.Seq()
	})
}

// db is a connection to look with.
type db struct {
	*pgx.Conn
	t *testing.T
}

func open(t *testing.T, url string) db {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return db{conn, t}
}

func (d db) run(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// text returns a single value as text.
func (d db) text(sql string, args ...any) string {
	d.t.Helper()
	var out string
	if err := d.QueryRow(d.t.Context(), "SELECT coalesce(("+sql+")::text, '')", args...).Scan(&out); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (d db) want(want, sql string, args ...any) {
	d.t.Helper()
	if got := d.text(sql, args...); got != want {
		d.t.Fatalf("%s\n got %s\nwant %s", sql, got, want)
	}
}

// wantOnce demands every event of an epoch after one sequence through another
// exactly once, in every table, and the cursor at the last.
func (d db) wantOnce(epoch string, after, through uint64) {
	d.t.Helper()
	d.want(fmt.Sprintf("(%d,%d,%d,%d)", through-after, through-after, after+1, through),
		"SELECT (count(*), count(DISTINCT seq), min(seq), max(seq)) FROM fleet_events WHERE epoch = $1", epoch)
	d.want(fmt.Sprint(through), "SELECT seq FROM archive_cursor WHERE epoch = $1", epoch)
	d.want("true", `SELECT (SELECT count(*) FROM fleet_events WHERE epoch = $1 AND kind = 'revision_created') =
		(SELECT count(*) FROM fleet_revisions WHERE epoch = $1)`, epoch)
}

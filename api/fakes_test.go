package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// ledger is the log that all nodes of a test share: the real state machine
// without the network.
type ledger struct {
	mu sync.Mutex
	st *fsm.State
	// requests are the hashes of those that came with a key.
	requests [][]byte
	// backups are those that were staged; spread those that all nodes have.
	backups, spread map[string]*fsm.State
}

func newLedger() *ledger { return newLedgerAt(fsm.SupportedLevel) }

// newLedgerAt is of a cluster that was founded at a feature level.
func newLedgerAt(level uint32) *ledger {
	l := &ledger{st: fsm.New(), backups: map[string]*fsm.State{}, spread: map[string]*fsm.State{}}
	init := initCluster("c1", "e1")
	init.GetInitCluster().FeatureLevel = level
	l.apply(init)
	return l
}

func initCluster(id, epoch string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: id, Epoch: epoch}, FeatureLevel: fsm.SupportedLevel,
	}}}
}

func (l *ledger) state() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

// lastRequestHash is the newest that the state remembers of a request.
func (l *ledger) lastRequestHash() []byte {
	return l.requests[len(l.requests)-1]
}

func (l *ledger) apply(c *fsmpb.Command) *fsmpb.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := c.GetIdempotency(); key != nil {
		l.requests = append(l.requests, key.RequestHash)
	}
	next, results, _ := l.st.ApplyWith(l.st.Index()+1, &fsmpb.Entry{
		Stamp: time.Now().UnixNano(), Commands: []*fsmpb.Command{c},
	}, func(sha256 []byte) *fsm.State { return l.spread[string(sha256)] })
	l.st = next
	return results[0]
}

// node is one member: a cluster as the API sees it.
type node struct {
	id     string
	ledger *ledger

	mu sync.Mutex
	// frozen is what the node has applied while it lags, nil when it does not.
	frozen *fsm.State
	// stuck: it lags and does not catch up.
	stuck      bool
	leader     string
	proposeErr error
	readErr    error
	gather     func(q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error)
	moved      []string
	removed    []string
	drained    []string
	voting     []string
	clusterErr error
	archive    *fsmpb.ArchiveReport
}

func newNode(l *ledger) *node { return &node{id: "n1", ledger: l, leader: "n1"} }

// lag keeps the node at its present state until it is asked to wait.
func (n *node) lag() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = n.ledger.state()
}

func (n *node) set(change func(n *node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *node) State() *fsm.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		return n.frozen
	}
	return n.ledger.state()
}

func (n *node) Propose(_ context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	n.mu.Lock()
	err := n.proposeErr
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return n.ledger.apply(c), nil
}

func (n *node) Finalize(_ context.Context, by string) (*fsmpb.Result, error) {
	n.mu.Lock()
	err := n.clusterErr
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return n.ledger.apply(&fsmpb.Command{By: by, Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: fsm.SupportedLevel}}}), nil
}

func (n *node) ReadIndex(context.Context) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ledger.state().Index(), n.readErr
}

func (n *node) WaitApplied(ctx context.Context, index uint64) (*fsm.State, error) {
	n.mu.Lock()
	if !n.stuck {
		n.frozen = nil
	}
	n.mu.Unlock()
	for n.State().Index() < index {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return n.State(), nil
}

func (n *node) Gather(_ context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	n.mu.Lock()
	gather := n.gather
	n.mu.Unlock()
	if gather == nil {
		return nil, nil
	}
	return gather(q)
}

func (n *node) Report(context.Context) (*fsmpb.ClusterReport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &fsmpb.ClusterReport{
		ClusterId: "c1", Epoch: "e1", Leader: n.leader, Plan: "one more node is missing for 3 voters", Term: 3, Index: n.ledger.state().Index(),
		Archive: n.archive,
		Backup:  &fsmpb.BackupReport{State: fsmpb.BackupReport_OVERDUE, Reason: "late", Target: "/backups", Name: "b", At: 1e18, Index: 4, Bytes: 5},
		Nodes: []*fsmpb.NodeReport{
			{Id: "n1", Address: "h1:7000", Voter: true, Leader: n.leader == "n1", Healthy: true, Applied: 7, Streams: 2, Build: "v1"},
			{Id: "n2", Address: "h2:7000", Zone: "b", Reason: "no heartbeat"},
		},
	}, n.clusterErr
}

func (n *node) TransferLeadership(_ context.Context, to string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.moved = append(n.moved, to)
	n.leader = "n2"
	return n.clusterErr
}

func (n *node) SetVoting(_ context.Context, id string, willing bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.voting = append(n.voting, fmt.Sprint(id, " ", willing))
	return nil
}

func (n *node) DrainNode(_ context.Context, id string, on bool, within time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drained = append(n.drained, fmt.Sprint(id, " ", on, " ", within))
	return n.clusterErr
}

func (n *node) RemoveNode(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removed = append(n.removed, id)
	return n.clusterErr
}

func (n *node) LeaderID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader
}

func (n *node) NodeID() string { return n.id }

func (n *node) Term() uint64 { return 7 }

func (n *node) StageBackup(r io.Reader) ([32]byte, *fsm.State, error) {
	sum, st, err := fsm.ReadBackup(r)
	n.ledger.backups[string(sum[:])] = st
	return sum, st, err
}

func (n *node) SpreadBackup(_ context.Context, sum [32]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ledger.spread[string(sum[:])] = n.ledger.backups[string(sum[:])]
	return n.clusterErr
}

// plainResources keeps messages as the JSON that they came in: what the
// server does with resources, without Envoy's rules.
type plainResources struct{}

type plain struct {
	Type  string   `json:"@type"`
	Name  string   `json:"name"`
	Binds []string `json:"binds"`
	Needs string   `json:"needs"`
	Bad   string   `json:"bad"`
}

func (plainResources) Decode(path string, raw []byte) (*fsmpb.Resource, []wire.FieldError) {
	var p plain
	if err := json.Unmarshal(raw, &p); err != nil || p.Type == "" {
		return nil, []wire.FieldError{{Path: path, Detail: "no message", Code: wire.CodeUnknownType}}
	}
	if p.Bad != "" {
		return nil, []wire.FieldError{{Path: path + ".bad", Detail: "it is bad", Code: wire.Code(p.Bad)}}
	}
	r := &fsmpb.Resource{TypeUrl: p.Type, Name: p.Name, Body: raw, Hash: fsm.ResourceHash(raw, nil, 0), Binds: p.Binds}
	if p.Needs != "" {
		r.References = []*fsmpb.Reference{{Kind: fsmpb.Reference_CLUSTER, Name: p.Needs, Path: "needs"}}
	}
	return r, nil
}

func (plainResources) DecodeEndpoints(service string, raw []byte) (body, hash []byte, problems []wire.FieldError) {
	var p struct {
		ClusterName string `json:"cluster_name"`
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.ClusterName != "" && p.ClusterName != service {
		return nil, nil, []wire.FieldError{{Path: "cluster_name", Detail: "it is another service", Code: wire.CodeInvalid}}
	}
	return raw, fsm.ResourceHash(raw, nil, 0), nil
}

func (plainResources) DecodeSecret(_ string, raw []byte) ([]byte, *fsmpb.SecretInfo, []wire.FieldError) {
	return bytes.Clone(raw), &fsmpb.SecretInfo{Kind: "generic_secret"}, nil
}

func (r plainResources) Extract(_ string, body []byte) (references []*fsmpb.Reference, binds []string, err error) {
	res, problems := r.Decode("", body)
	if len(problems) > 0 {
		return nil, nil, errors.New(problems[0].Detail)
	}
	return res.References, res.Binds, nil
}

func (plainResources) JSON(_ string, body []byte) ([]byte, error) { return body, nil }

// connect registers a proxy's stream, as node n1 would report it.
func connect(t *testing.T, l *ledger, tenant, fleet, proxy, peer string, stream uint64) {
	t.Helper()
	report(t, l, stream, &fsmpb.ProxyReport{
		Tenant: tenant, Id: proxy, Stream: stream,
		Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{
			Fleet: fleet, Peer: peer, Protocol: "delta", Build: "1.40.0",
			Locality: &fsmpb.Locality{Zone: "eu"}, Labels: map[string]string{"a": "b"},
		}},
	})
}

func report(t *testing.T, l *ledger, batch uint64, r *fsmpb.ProxyReport) {
	t.Helper()
	result := l.apply(&fsmpb.Command{By: "xds", Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "n1", NodeStart: 1, Batch: batch, Reports: []*fsmpb.ProxyReport{r},
	}}})
	if result.GetCode() != "" || result.GetUnchanged() {
		t.Fatalf("report: %v", result)
	}
}

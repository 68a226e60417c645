package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// lone is a cluster that applies at once and reports as it is told.
type lone struct {
	state  *fsm.State
	report *fsmpb.ClusterReport
	err    error
}

func (l *lone) State() *fsm.State { return l.state }
func (l *lone) IsLeader() bool    { return true }

func (l *lone) Report(context.Context) (*fsmpb.ClusterReport, error) {
	return l.report, l.err
}

func (l *lone) Propose(_ context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	if l.err != nil {
		return nil, l.err
	}
	next, results, _ := l.state.Apply(l.state.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{c}})
	l.state = next
	return results[0], nil
}

func (l *lone) streams() int {
	p, _ := l.state.Proxy("default", "p")
	return len(p.GetStreams())
}

func TestReaperDropsStreamsOfLostNodes(t *testing.T) {
	c := &lone{state: fsm.New(), report: &fsmpb.ClusterReport{}}
	for _, node := range []string{"alive", "lost", "removed"} {
		_, err := c.Propose(t.Context(), &fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
			Node: node, NodeStart: 1, Batch: 1, Reports: []*fsmpb.ProxyReport{{
				Tenant: "default", Id: "p", Stream: 1,
				Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "edge"}},
			}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &reaper{log: slog.New(slog.DiscardHandler), cluster: c, every: time.Second, grace: 15 * time.Second}
	since, now := map[string]time.Time{}, time.Unix(1000, 0)
	look := func(after time.Duration, want int) {
		t.Helper()
		now = now.Add(after)
		r.look(t.Context(), now, since)
		if got := c.streams(); got != want {
			t.Fatalf("%d streams, want %d", got, want)
		}
	}
	// A degraded node still serves; only one that does not answer is lost.
	nodes := []*fsmpb.NodeReport{{Id: "alive", Reachable: true, Reason: "no leader"}, {Id: "lost", Reason: "it does not answer"}}
	c.report.Nodes = nodes
	look(0, 3)
	look(14*time.Second, 3)
	c.report.Nodes = []*fsmpb.NodeReport{{Id: "alive", Reachable: true}, {Id: "lost", Reachable: true}}
	look(time.Second, 2) // the removed one is in no report
	c.report.Nodes = nodes
	look(time.Second, 2) // it answered in between: its time begins anew
	c.err = errors.New("no leader")
	look(15*time.Second, 2)
	c.err = nil
	look(time.Second, 1)
	if p, _ := c.state.Proxy("default", "p"); p.Streams[0].Node != "alive" {
		t.Fatalf("left is %v", p.Streams)
	}
}

func TestReaperForgetsProxies(t *testing.T) {
	c := &lone{state: fsm.New()}
	report := func(batch uint64, r *fsmpb.ProxyReport) {
		r.Tenant, r.Id, r.Stream = "default", "p", 1
		_, _ = c.Propose(t.Context(), &fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
			Node: "n", NodeStart: 1, Batch: batch, Reports: []*fsmpb.ProxyReport{r},
		}}})
	}
	report(1, &fsmpb.ProxyReport{Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "edge"}}})
	r := &reaper{log: slog.New(slog.DiscardHandler), cluster: c, retention: time.Hour}
	known := func(at time.Duration, want bool) {
		t.Helper()
		r.forget(t.Context(), time.Unix(0, 0).Add(at)) // the log's time stands at 0
		if _, ok := c.state.Proxy("default", "p"); ok != want {
			t.Fatalf("after %s the proxy is known: %v", at, ok)
		}
	}
	known(2*time.Hour, true) // it is connected
	report(2, &fsmpb.ProxyReport{Report: &fsmpb.ProxyReport_Disconnected_{Disconnected: &fsmpb.ProxyReport_Disconnected{}}})
	known(time.Hour, true)
	r.retention = 0
	known(2*time.Hour, true)
	r.retention = time.Hour
	known(2*time.Hour, false)
}

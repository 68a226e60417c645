package xds

import (
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (r *reporter) waitingVerdicts() (rejected, recovered int) {
	for _, p := range r.take() {
		if p.GetRejected() != nil {
			rejected++
		}
		if p.GetRecovered() != nil {
			recovered++
		}
	}
	return rejected, recovered
}

// A proxy that rejects without end is written down at a pace, the newest
// verdict of each type last; others are not slowed down by it.
func TestVerdictsHaveAPace(t *testing.T) {
	r := idleReporter()
	st, other := bareStream(r, "p"), bareStream(r, "other")
	k, l := &kind{url: fsm.TypeCluster}, &kind{url: fsm.TypeListener}
	f := &frame{to: newContent(&kind{}, nil, true)}
	reported := 0
	for range 1000 {
		if r.rejected(st, k, f, 1, "no") {
			reported++
		}
	}
	if reported > paceBurst+2 { // some time passes
		t.Fatalf("%d rejections reported at once", reported)
	}
	r.recovered(st, l, 2)
	r.recovered(st, k, 3)
	if !r.rejected(other, k, f, 1, "no") {
		t.Fatal("another proxy is slowed down")
	}
	if rejected, recovered := r.waitingVerdicts(); rejected != reported+1 || recovered != 0 {
		t.Fatalf("%d rejections and %d recoveries queued", rejected, recovered)
	}
	// What was held comes later: one of each type, the newest.
	r.release(time.Now().Add(2*paceInterval + paceInterval/2))
	if rejected, recovered := r.waitingVerdicts(); rejected != 0 || recovered != 2 {
		t.Fatalf("%d rejections and %d recoveries queued", rejected, recovered)
	}
	r.release(time.Now().Add(100 * paceInterval))
	if len(r.paces) != 0 {
		t.Fatalf("%d proxies remembered", len(r.paces))
	}
}

// Clients choose types; a proxy's row holds the rejections of so many.
func TestRejectedTypesAreBounded(t *testing.T) {
	r := idleReporter()
	s := fsm.New()
	report := func(p *fsmpb.ProxyReport) {
		s, _, _ = s.Apply(s.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{r.command([]*fsmpb.ProxyReport{p}, nil)}})
	}
	st := bareStream(r, "p")
	p := reportOf(st)
	p.Report = &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "web"}}
	report(p)
	f := &frame{to: newContent(&kind{}, nil, true)}
	for i := range maxTypes {
		p := reportOf(st)
		p.Report = &fsmpb.ProxyReport_Rejected_{Rejected: &fsmpb.ProxyReport_Rejected{TypeUrl: sprintf("t%d", i)}}
		report(p)
	}
	r.state.Store(s)
	if r.rejected(st, &kind{url: "one more"}, f, 1, "no") {
		t.Error("one more type is reported")
	}
	if !r.rejected(st, &kind{url: "t1"}, f, 1, "no") {
		t.Error("a known type is not")
	}
}

// What a client chooses is bounded before it becomes a command.
func TestRejectedNamesAreBounded(t *testing.T) {
	r := idleReporter()
	for names, want := range map[*[]string]int{
		{"a", "b"}: 2, {string(make([]byte, maxRejectedBytes+1))}: 0, ptr(manyNames(1000)): maxRejectedBytes / 100,
		ptr(make([]string, 1000)): maxRejectedNames,
	} {
		r.paces = map[proxyKey]*pace{}
		f := &frame{to: newContent(&kind{}, nil, true), diff: diff{removed: *names}}
		r.rejected(bareStream(r, "p"), &kind{}, f, 1, "no")
		if got := len(r.take()[0].GetRejected().Resources); got != want {
			t.Errorf("%d of %d names kept, want %d", got, len(*names), want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

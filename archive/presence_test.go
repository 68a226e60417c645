package archive_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// model is what the digest of proxies must come to, told the slow way: every
// proxy's status over all of time.
type model struct {
	proxies map[string]*modelled
	spent   map[string]map[bool]time.Duration // by day and build, or month and fleet
}

type modelled struct {
	fleet, build string
	connected    bool
	since        time.Time
}

func (m *model) pass(p *modelled, until time.Time) {
	for at := p.since; at.Before(until); {
		end := at.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
		if until.Before(end) {
			end = until
		}
		for _, key := range []string{at.UTC().Format("2006-01-02 ") + p.build, at.UTC().Format("2006-01 ") + p.fleet} {
			if m.spent[key] == nil {
				m.spent[key] = map[bool]time.Duration{}
			}
			m.spent[key][p.connected] += end.Sub(at)
		}
		at = end
	}
	p.since = until
}

// TestPresenceIsExact lets proxies come and go at random over months, with
// writers that stop and start, and compares with the model.
func TestPresenceIsExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now().AddDate(0, 0, -75).Truncate(time.Microsecond)
	dsn, l := local.TestDatabase(t), newLogAt(t, "c", "e", began)
	m := &model{proxies: map[string]*modelled{}, spent: map[string]map[bool]time.Duration{}}
	w := l.start(dsn, 1)
	d := open(t, dsn)
	for step := range 300 {
		l.advance(time.Duration(r.Int64N(int64(10 * time.Hour))).Truncate(time.Microsecond))
		m.step(l, r)
		if step%50 == 49 {
			d.digested(l)
			w.stop()
			w = l.start(dsn, uint64(step))
		}
	}
	d.digested(l)
	w.reads()
	out, err := w.Proxies(t.Context(), archive.ReportQuery{Tenant: "default", Since: began, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.proxies {
		m.pass(p, out.AsOf)
	}
	presences := everything(t, archive.ReportQuery{Tenant: "default", Since: began, Limit: 7}, w.Proxies)
	n := m.compare(t, presences, out.AsOf, func(p archive.Presence) string { return p.From.Format("2006-01-02 ") + p.Name })
	months := everything(t, archive.ReportQuery{Tenant: "default", Since: began, Limit: 2}, w.Availability)
	n += m.compare(t, months, out.AsOf, func(p archive.Presence) string { return p.From.Format("2006-01 ") + p.Name })
	if n != len(m.spent) {
		t.Fatalf("%d of %d sums are reported", n, len(m.spent))
	}
}

func (m *model) step(l *log, r *rand.Rand) {
	id := fmt.Sprint("p", r.IntN(8))
	p := m.proxies[id]
	at := l.stamp.Add(time.Millisecond).Truncate(time.Microsecond)
	row, _ := l.State().Proxy("default", id)
	switch {
	case len(row.GetStreams()) < 2 && r.IntN(2) == 0:
		fleet, build := fmt.Sprint("f", r.IntN(2)), fmt.Sprint("b", r.IntN(3))
		c := connected(id, uint64(r.Int64()))
		c.GetConnected().Fleet, c.GetConnected().Build = fleet, build
		l.report(c)
		if p == nil {
			p = &modelled{since: at}
			m.proxies[id] = p
		}
		m.pass(p, at)
		p.fleet, p.build, p.connected = fleet, build, true
	case len(row.GetStreams()) > 0:
		l.report(disconnected(id, row.Streams[0].Number))
		m.pass(p, at)
		p.connected = len(row.Streams) > 1
	case p != nil:
		l.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteProxy{DeleteProxy: &fsmpb.DeleteProxy{Tenant: "default", Id: id}}})
		m.pass(p, at)
		delete(m.proxies, id)
	}
}

func (m *model) compare(t *testing.T, got []archive.Presence, asOf time.Time, key func(archive.Presence) string) int {
	t.Helper()
	for _, p := range got {
		want := m.spent[key(p)]
		// The last period grows between two questions.
		length, slack := p.To.Sub(p.From), time.Millisecond
		if p.To.After(asOf) {
			slack += 10 * p.To.Sub(asOf)
		}
		for connected, average := range map[bool]float64{true: p.Connected, false: p.Disconnected} {
			spent := time.Duration(average * float64(length))
			if math.Abs(float64(spent-want[connected])) > float64(slack) {
				t.Errorf("%s: connected %v for %v, want %v", key(p), connected, spent, want[connected])
			}
		}
	}
	return len(got)
}

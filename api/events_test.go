package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// note commits one event of a tenant, which must exist.
func (l *ledger) note(tenant, label string) {
	r := l.apply(&fsmpb.Command{By: "test", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{
		Name: tenant, Labels: map[string]string{"n": label},
	}}})
	if r.GetCode() != "" || r.GetUnchanged() {
		panic(fmt.Sprint("not an event: ", r))
	}
}

// notes commits events of tenant default.
func (l *ledger) notes(n int) {
	for range n {
		l.note("default", strconv.FormatUint(l.state().Seq(), 10))
	}
}

func upTo(first, last uint64) []uint64 {
	out := []uint64{}
	for n := first; n <= last; n++ {
		out = append(out, n)
	}
	return out
}

// TestEventsAreHistory: a stream has, in order, what the history has, from its
// beginning to what is committed while it is open, whichever way it comes.
func TestEventsAreHistory(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""))
	streams := map[string]subscriber{
		"server-sent": r.events("?since=0"), "socket": r.socket("?tenant=default&since=0", nil),
	}
	r.change(cluster("b", ""))
	connect(t, r.ledger, "default", "edge", "p1", "10.0.0.1", 1)
	r.put("/api/v1/tenants/other", "").is(201)
	r.put("/api/v1/tenants/other/fleets/x", "").is(201)
	r.delete(fleetPath + "?force=true").is(200)
	past := decoded[wire.History](r.get("/api/v1/tenants/default/history"), 200).Items
	slices.Reverse(past)
	for name, s := range streams {
		got := take(t, s, len(past))
		for i, want := range past {
			raw, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if got[i].raw != string(raw) {
				t.Errorf("%s: event %d is\n%s, in the history\n%s", name, i, got[i].raw, raw)
			}
			if id := got[i].id; name == "server-sent" && id != "e1/"+strconv.FormatUint(want.TenantSeq, 10) {
				t.Errorf("event %d has the id %q", i, id)
			}
		}
	}
	head := streams["server-sent"].(*serverSent).answer.Header
	if head.Get("Content-Type") != wire.MediaEvents || head.Get(wire.HeaderIndex) == "" || head.Get(wire.HeaderRequestID) == "" {
		t.Errorf("head: %v", head)
	}
}

// TestEventsBegin: where a stream begins, by all that a client can say.
func TestEventsBegin(t *testing.T) {
	r := newRig(t)
	r.ledger.notes(5)
	entry := r.ledger.state().Index()
	r.ledger.notes(3)
	for _, c := range []struct {
		query, last string
		first       uint64
	}{
		{"?since=0", "", 1},
		{"?since=4", "", 5},
		{"?since=e1/4", "", 5},
		{"?since=8", "", 9},
		{"?since_index=" + strconv.FormatUint(entry, 10), "", 6},
		{"?since_index=0", "", 1},
		{"?since_index=e1/" + strconv.FormatUint(entry+3, 10), "", 9},
		{"", "", 9},
		{"", "2", 3},
		{"", "e1/2", 3},
		{"?since=7", "e1/2", 3},
	} {
		t.Run(c.query+" "+c.last, func(t *testing.T) {
			var header []string
			if c.last != "" {
				header = []string{wire.HeaderLastEventID, c.last}
			}
			s := r.events(c.query, header...)
			last := r.ledger.state().TenantSeq("default")
			r.ledger.notes(1)
			first := c.first
			if first > 8 {
				first = last + 1 // behind what was there
			}
			want := upTo(first, last+1)
			if c.query == "?since=8" {
				want = upTo(9, last+1)
			}
			if strings.HasPrefix(c.query, "?since_index=e1") {
				want = upTo(9, last+1)
			}
			if got := numbers(t, take(t, s, len(want))); !slices.Equal(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	}
}

// TestEventsRefused: what a stream cannot begin with.
func TestEventsRefused(t *testing.T) {
	r := newRig(t)
	r.ledger.notes(3)
	for query, path := range map[string]string{
		"?since=x": "query.since", "?since=-1": "query.since", "?since=/1": "query.since", "?since=e1/": "query.since",
		"?since=99999999999999999999": "query.since", "?since=": "query.since", "?since_index=x": "query.since_index",
		"?since=1&since_index=1": "query.since_index", "?since=1&since=2": "query.since", "?kind=nonsense": "query.kind",
		"?kind=tenant_put,": "query.kind", "?follow=maybe": "query.follow", "?limit=1": "query.limit", "?tenant=x": "query.tenant",
	} {
		r.get(eventPath+query).refused(wire.CodeInvalidParameter, path)
	}
	r.get(eventPath, wire.HeaderLastEventID, "x").refused(wire.CodeInvalidParameter, "header."+wire.HeaderLastEventID)
	r.get(eventPath + "?since=e0/1").refused(wire.CodeEpochChanged)
	r.get(eventPath + "?since=4").refused(wire.CodeEpochChanged)
	r.get(eventPath, wire.HeaderLastEventID, "e2/1").refused(wire.CodeEpochChanged)
	r.get("/api/v1/tenants/nobody/events").refused(wire.CodeTenantNotFound)
	r.get("/api/v1/ws?tenant=default").refused(wire.CodeUpgradeRequired)
	for query, code := range map[string]wire.Code{
		"?tenant=default&since=x": wire.CodeInvalidParameter, "?tenant=nobody": wire.CodeTenantNotFound,
		"?tenant=A": wire.CodeInvalidParameter, "?tenant=default&since=9": wire.CodeEpochChanged,
	} {
		_, err := dial(t.Context(), r.url+"/api/v1/ws"+query, nil)
		refusedWith(t, err, code)
	}
	r.send(http.MethodHead, eventPath, "").is(200)
	if n := r.subscribers(); n != 0 {
		t.Errorf("%v streams are left over", n)
	}
}

// TestEventsWithoutFollow end with what is there.
func TestEventsWithoutFollow(t *testing.T) {
	r := newRig(t)
	r.ledger.notes(200)
	for _, s := range []subscriber{r.events("?since=0&follow=false"), r.socket("?tenant=default&since=0&follow=false", nil)} {
		if got := numbers(t, rest(t, s)); !slices.Equal(got, upTo(1, 200)) {
			t.Errorf("events %v", got)
		}
	}
	r.get(eventPath + "?follow=false&kind=fleet_put&kind=tenant_put,secret_put").is(200) // the document allows it
}

// TestEventFilters: kinds and a fleet; a ping tells how far a stream has come
// beside what it leaves out.
func TestEventFilters(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.EventPing = 20 * time.Millisecond }).withFleet()
	r.put("/api/v1/tenants/default/fleets/other", "").is(201)
	r.change(cluster("a", ""))
	r.ledger.notes(3)
	for query, want := range map[string][]uint64{
		"&fleet=edge":                                {1, 3},
		"&fleet=other":                               {2},
		"&kind=tenant_put":                           {4, 5, 6},
		"&kind=fleet_put":                            {1, 2},
		"&kind=fleet_put,revision_created":           {1, 2, 3},
		"&kind=fleet_put&kind=revision_created":      {1, 2, 3},
		"&kind=fleet_put,tenant_put&fleet=edge":      {1},
		"&kind=proxy_rejected":                       {},
		"&fleet=nowhere":                             {},
		"&kind=revision_created,fleet_deleted&fleet": {3},
	} {
		query = strings.TrimSuffix(query, "&fleet")
		for _, s := range []subscriber{
			r.events("?since=0&follow=false" + query), r.socket("?tenant=default&since=0&follow=false"+query, nil),
		} {
			if got := numbers(t, rest(t, s)); !slices.Equal(got, want) {
				t.Errorf("%s: events %v, want %v", query, got, want)
			}
		}
	}
	s := r.events("?since=0&kind=proxy_rejected")
	go func() { _, _ = s.next() }() // no event comes; the test's end ends it
	quiet := r.events("?since=0&fleet=edge")
	take(t, quiet, 2)
	if _, err := awaitPing(quiet); err != nil || quiet.id != "e1/6" {
		t.Errorf("the ping says %q, %v", quiet.id, err)
	}
}

// TestSocketsTellTheirPosition: one who has seen no event, or none for long, knows
// where to go on from, and misses none there.
func TestSocketsTellTheirPosition(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.EventPing = 20 * time.Millisecond }).withFleet()
	r.ledger.notes(2)
	idle := r.socket("?tenant=default&kind=fleet_put", nil)
	first, err := idle.message()
	if err != nil || first.raw != `{"position":"e1/3"}` {
		t.Fatalf("first %q, %v", first.raw, err)
	}
	r.ledger.notes(4) // which it leaves out
	for end := time.Now().Add(patience); first.raw != `{"position":"e1/7"}`; {
		if first, err = idle.message(); err != nil || time.Now().After(end) {
			t.Fatalf("last %q, %v", first.raw, err)
		}
	}
	idle.close()
	r.put("/api/v1/tenants/default/fleets/other", "").is(201)
	again := r.socket("?tenant=default&kind=fleet_put&follow=false&since=e1/7", nil)
	if got := numbers(t, rest(t, again)); !slices.Equal(got, []uint64{8}) || again.positions == 0 || !strings.HasPrefix(again.position, "e1/") {
		t.Errorf("events %v, position %q", got, again.position)
	}
}

// awaitPing reads to the next ping's id.
func awaitPing(s *serverSent) (string, error) {
	for before := s.pings; ; {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(line, ": ping") {
			s.pings++
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok && s.pings > before {
			s.id = strings.TrimSpace(id)
			return s.id, nil
		}
	}
}

// TestClusterEvents: what belongs to no tenant, for administrators.
func TestClusterEvents(t *testing.T) {
	r := newRig(t, withSecret)
	root := mint(t, "root", "", "admin")
	s, err := subscribe(t.Context(), r.url+"/api/v1/cluster/events?since=0", "Authorization", root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	bearer := &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {root}}}
	ws := r.socket("?since=0", bearer)
	r.ledger.notes(3)
	r.put("/api/v1/cluster/read-only", `{"read_only":true}`, "Authorization", root).is(200)
	for _, s := range []subscriber{s, ws} {
		got := take(t, s, 2)
		first, second := got[0].event(t), got[1].event(t)
		if first.Kind != "cluster_initialized" || first.Seq != 1 || second.Kind != "read_only_set" || second.Seq != 5 || second.Tenant != "" {
			t.Errorf("events %+v", got)
		}
	}
	if s.id != "e1/5" {
		t.Errorf("the id is %q", s.id)
	}
	again, err := subscribe(t.Context(), r.url+"/api/v1/cluster/events?follow=false", "Authorization", root, wire.HeaderLastEventID, "e1/1")
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if got := rest(t, again); len(got) != 1 {
		t.Errorf("after the first there are %v", got)
	}
	for _, bound := range []string{mint(t, "ann", "default", "admin"), mint(t, "ann", "*", "operator")} {
		r.get("/api/v1/cluster/events", "Authorization", bound).refused(wire.CodeForbidden)
		_, err := dial(t.Context(), r.url+"/api/v1/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {bound}}})
		refusedWith(t, err, wire.CodeForbidden)
	}
}

// TestEventPermissions: a viewer of the tenant, by header or, from a browser, by
// subprotocol; not a page of elsewhere.
func TestEventPermissions(t *testing.T) {
	r := newRig(t, withSecret)
	r.ledger.notes(1)
	viewer, stranger := mint(t, "ann", "default", "viewer"), mint(t, "eve", "other", "admin")
	r.get(eventPath).refused(wire.CodeUnauthenticated)
	r.get(eventPath, "Authorization", stranger).refused(wire.CodeForbidden)
	r.get(eventPath+"?follow=false", "Authorization", viewer).is(200)
	header := func(h ...string) *websocket.DialOptions {
		o := &websocket.DialOptions{HTTPHeader: http.Header{}}
		for pair := range slices.Chunk(h, 2) {
			o.HTTPHeader.Set(pair[0], pair[1])
		}
		return o
	}
	offer := func(token string) *websocket.DialOptions {
		return &websocket.DialOptions{Subprotocols: []string{wire.EventProtocol, wire.BearerProtocol + strings.TrimPrefix(token, "Bearer ")}}
	}
	const query = "?tenant=default&since=0"
	for name, o := range map[string]*websocket.DialOptions{
		"header":      header("Authorization", viewer),
		"protocol":    offer(viewer),
		"same origin": header("Authorization", viewer, "Origin", r.url),
	} {
		s := r.socket(query, o)
		take(t, s, 1)
		if name == "protocol" && s.conn.Subprotocol() != wire.EventProtocol {
			t.Errorf("the protocol is %q", s.conn.Subprotocol())
		}
	}
	for _, c := range []struct {
		o    *websocket.DialOptions
		code wire.Code
	}{
		{header(), wire.CodeUnauthenticated},
		{offer("Bearer x.y.z"), wire.CodeUnauthenticated},
		{header("Authorization", stranger), wire.CodeForbidden},
		{offer(stranger), wire.CodeForbidden},
		{header("Authorization", viewer, "Origin", "http://elsewhere.example"), wire.CodeForbidden},
		{header("Authorization", viewer, "Origin", "null"), wire.CodeForbidden},
	} {
		_, err := dial(t.Context(), r.url+"/api/v1/ws"+query, c.o)
		refusedWith(t, err, c.code)
	}
}

// TestEventsEndWithTheToken.
func TestEventsEndWithTheToken(t *testing.T) {
	r := newRig(t, withSecret)
	// Beyond the clock skew that is allowed for.
	soon := mint(t, "ann", "default", "viewer", func(c *api.Claims) {
		c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(2*time.Second - 30*time.Second))
	})
	ws := r.socket("?tenant=default", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {soon}}})
	ends(t, r.events("", "Authorization", soon), wire.CodeUnauthenticated)
	ends(t, ws, wire.CodeUnauthenticated)
	if n := r.cut(wire.CodeUnauthenticated); n != 2 {
		t.Errorf("%v were cut", n)
	}
}

// TestEventStreamsAreBounded.
func TestEventStreamsAreBounded(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.EventStreams = 2 })
	first := r.events("")
	r.socket("?tenant=default", nil)
	p := r.get(eventPath).refused(wire.CodeTooManyStreams)
	if !strings.Contains(p.Detail, "2") {
		t.Errorf("detail: %s", p.Detail)
	}
	_, err := dial(t.Context(), r.url+"/api/v1/ws?tenant=default", nil)
	refusedWith(t, err, wire.CodeTooManyStreams)
	first.close()
	eventually(t, "room for another stream", func() bool { return r.get(eventPath+"?follow=false").status == 200 })
}

// TestEventsDrain: a node that stops ends its streams at once and says so.
func TestEventsDrain(t *testing.T) {
	r := newRig(t)
	sse, ws := r.events("?since=0"), r.socket("?tenant=default&since=0", nil)
	r.ledger.notes(1)
	take(t, sse, 1)
	take(t, ws, 1)
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.Shutdown(t.Context()) }()
	ends(t, sse, wire.CodeUnavailable)
	ends(t, ws, wire.CodeUnavailable)
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the streams hold the stop up")
	}
}

// TestEventsOfARestore: a stream ends behind the last event of its epoch; the
// next one begins in the new one, and nothing is lost between them.
func TestEventsOfARestore(t *testing.T) {
	r := newRig(t)
	r.ledger.notes(2)
	backup := r.ledger.state()
	sse, ws := r.events("?since=0"), r.socket("?tenant=default&since=0", nil)
	r.ledger.notes(2)
	take(t, sse, 4)
	r.ledger.restore(backup, "e2")
	r.ledger.notes(1)
	ends(t, sse, wire.CodeEpochChanged)
	ends(t, ws, wire.CodeEpochChanged)
	r.get(eventPath, wire.HeaderLastEventID, sse.id).refused(wire.CodeEpochChanged)
	after := rest(t, r.events("?since=4&follow=false"))
	if got := numbers(t, after); !slices.Equal(got, []uint64{5}) || after[0].id != "e2/5" {
		t.Errorf("after the restore: %v", after)
	}
	seen := r.get("/api/v1/cluster/events?since=0&follow=false&kind=state_restored").is(200)
	if !strings.Contains(string(seen.raw), `"epoch":"e2"`) {
		t.Errorf("the restore is no event: %s", seen.raw)
	}
}

// restore makes a state of the past the present one, in a new epoch.
func (l *ledger) restore(backup *fsm.State, epoch string) {
	sum := []byte(strings.Repeat(epoch, 32)[:32])
	l.mu.Lock()
	l.spread[string(sum)] = backup
	l.mu.Unlock()
	r := l.apply(&fsmpb.Command{Op: &fsmpb.Command_RestoreState{RestoreState: &fsmpb.RestoreState{Sha256: sum, Epoch: epoch}}})
	if r.GetCode() != "" {
		panic(r.GetDetail())
	}
}

// TestEventsOfANodeThatLags: a client that knows more than the node gets what
// comes behind that, not again what the node learns meanwhile.
func TestEventsOfANodeThatLags(t *testing.T) {
	l := newLedger()
	n := newNode(l)
	r := newRigOn(t, n)
	l.notes(3)
	n.lag()
	l.notes(3)
	s := r.events("?since=5&follow=false")
	if got := numbers(t, rest(t, s)); !slices.Equal(got, []uint64{6}) {
		t.Errorf("events %v", got)
	}
	n.lag()
	l.notes(2)
	if got := numbers(t, rest(t, r.events("?since_index="+strconv.FormatUint(l.state().Index()-1, 10)+"&follow=false"))); !slices.Equal(got, []uint64{8}) {
		t.Errorf("behind the entry: %v", got)
	}
	n.lag()
	n.set(func(n *node) { n.stuck, n.readErr = true, errNoLeader })
	l.notes(1)
	r.get(eventPath + "?since=9").refused(wire.CodeNoLeader)
}

// TestSlowReader: one that does not read is cut off; the others, and the node,
// do not notice.
func TestSlowReader(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.EventWrite = 300 * time.Millisecond })
	big := strings.Repeat("x", 100<<10)
	quick := r.events("?since=0")
	slow := r.events("?since=0")
	mute := r.socket("?tenant=default&since=0", nil)
	const n = 200 // 20 MB: more than two sockets hold
	go func() {
		for i := range n {
			r.ledger.note("default", strconv.Itoa(i)+big)
		}
	}()
	for i := range n {
		d, err := quick.next()
		if err != nil || d.event(t).TenantSeq != uint64(i+1) {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	eventually(t, "both cut off", func() bool { return r.cut(wire.CodeTooSlow) == 2 })
	eventually(t, "one left", func() bool { return r.subscribers() == 1 })
	for _, s := range []subscriber{slow, mute} {
		var err error
		got := 0
		for ; err == nil; got++ {
			_, err = s.next()
		}
		if got >= n {
			t.Errorf("%d events reached one who was cut off", got)
		}
	}
}

// TestEventsThatFellBehind: a reader that what memory holds has run away from.
func TestEventsThatFellBehind(t *testing.T) {
	gate, reached := make(chan struct{}), make(chan struct{}, 100)
	r := newRig(t)
	r.ledger.archiveOn()
	held := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.server.Handler().ServeHTTP(&held{ResponseWriter: w, gate: gate, reached: reached}, q)
	}))
	t.Cleanup(held.Close)
	s, err := subscribe(t.Context(), held.URL+eventPath+"?since=0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	r.ledger.notes(1)
	<-reached
	r.ledger.notes(5)
	r.ledger.forget()
	r.ledger.notes(1)
	rest(t, r.events("?follow=false")) // the node has taken it in
	close(gate)
	ends(t, s, wire.CodeTooSlow)
}

// held lets the head of a stream through, says when it has reached an event and
// waits for a gate.
type held struct {
	http.ResponseWriter
	gate, reached chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "{") {
		h.reached <- struct{}{}
		<-h.gate
	}
	return h.ResponseWriter.Write(p)
}

func (h *held) Flush() { _ = http.NewResponseController(h.ResponseWriter).Flush() }

func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// archiveOn has the state keep what the archive has not, and nothing more.
func (l *ledger) archiveOn() {
	l.apply(&fsmpb.Command{Op: &fsmpb.Command_ConfigureArchive{ConfigureArchive: &fsmpb.ConfigureArchive{
		Settings: &fsmpb.ArchiveSettings{Enabled: true, ReplayWindowMs: 1, MaxOutboxBytes: 1 << 30},
	}}})
}

// forget drops the events that there are, once another entry comes.
func (l *ledger) forget() {
	l.apply(&fsmpb.Command{Op: &fsmpb.Command_AckArchived{AckArchived: &fsmpb.AckArchived{Epoch: l.state().Identity().GetEpoch(), ThroughSeq: l.state().Seq()}}})
	time.Sleep(5 * time.Millisecond) // the replay window, in the log's time
}

// TestEventsGone: what memory no longer has, without and with an archive.
func TestEventsGone(t *testing.T) {
	l := newLedger()
	a := &archived{}
	l.archiveOn()
	l.notes(1500)
	a.store(t, l)
	l.forget()
	l.notes(10)
	without := newRigOn(t, newNode(l))
	for _, query := range []string{"?since=0", "?since=1499", "?since_index=5"} {
		p := without.get(eventPath + query).refused(wire.CodeEventsGone)
		if p.Oldest != 1501 || !strings.Contains(p.Detail, "since=1500") {
			t.Errorf("%s: oldest %d, %s", query, p.Oldest, p.Detail)
		}
		_, err := dial(t.Context(), without.url+"/api/v1/ws"+query+"&tenant=default", nil)
		refusedWith(t, err, wire.CodeEventsGone)
	}
	if got := numbers(t, rest(t, without.events("?since=1500&follow=false"))); !slices.Equal(got, upTo(1501, 1510)) {
		t.Errorf("from the oldest: %v", got)
	}

	with := newRigOn(t, newNode(l), func(_ *rig, _ *api.Config, d *api.Deps) { d.Past = a })
	for query, first := range map[string]uint64{"?since=0": 1, "?since=1200": 1201, "?since_index=5": a.behind(5) + 1} {
		s := with.events(query)
		n := int(l.state().TenantSeq("default")-first) + 1
		if got := numbers(t, take(t, s, n)); !slices.Equal(got, upTo(first, first+uint64(n)-1)) {
			t.Errorf("%s: events %v", query, got)
		}
		l.notes(1)
		if got := numbers(t, take(t, s, 1)); got[0] != first+uint64(n) {
			t.Errorf("%s: then %v", query, got)
		}
	}
	a.set(func() { a.lost = 700 })
	if p := with.get(eventPath + "?since=699").refused(wire.CodeEventsGone); p.Oldest != 701 {
		t.Errorf("before a hole of the archive: oldest %d", p.Oldest)
	}
	s := with.events("?since=0")
	if p := ends(t, s, wire.CodeEventsGone); p.Oldest != 701 || s.id != "e1/699" {
		t.Errorf("at a hole of the archive: oldest %d, after %s", p.Oldest, s.id)
	}
	a.set(func() { a.down = io.ErrUnexpectedEOF })
	with.get(eventPath + "?since=0").refused(wire.CodeArchiveUnavailable)
	a.set(func() { a.down, a.lost, a.events = nil, 0, nil })
	if p := with.get(eventPath + "?since=0").refused(wire.CodeEventsGone); p.Oldest != 1501 {
		t.Errorf("of an empty archive: oldest %d", p.Oldest)
	}
}

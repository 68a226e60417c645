package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// TestEventSchedules has subscribers disconnect, change nodes and read slowly at
// random, while events are committed, archived and dropped from memory, nodes lag and cut
// connections, and backups are restored. Each subscriber must get what the log has: no gap,
// no double, no other order. ECP_SCHEDULES says how many schedules, ECP_SEED the first seed.
func TestEventSchedules(t *testing.T) {
	count, seed := uint64(100), rand.Uint64()>>32
	if testing.Short() {
		count = 30
	}
	for name, to := range map[string]*uint64{"ECP_SCHEDULES": &count, "ECP_SEED": &seed} {
		if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
			*to = n
		}
	}
	t.Logf("seeds %d to %d", seed, seed+count-1)
	w := newWorld(t)
	for i := range count {
		w.schedule(seed + i)
		if t.Failed() {
			t.Fatalf("that was seed %d", seed+i)
		}
	}
	t.Logf("%d events committed; %d delivered over %d streams; %d times gone, %d restores, %d cut off",
		w.ledger.state().Seq(), w.delivered, w.streams, w.gone, w.restores, w.cut)
	if w.gone == 0 || w.restores == 0 && count >= 100 {
		t.Error("the schedules lack what they are to show")
	}
}

// world is three nodes on one log, and what was committed there.
type world struct {
	t      *testing.T
	ledger *ledger
	nodes  []*worldNode
	past   *archived
	backup *fsm.State

	mu  sync.Mutex
	log map[string][]committed // by tenant

	delivered, streams, gone, restores, cut int
}

type worldNode struct {
	*node
	server *httptest.Server
	// archive: the node can read the past.
	archive bool
}

type committed struct {
	number, index uint64
	fleet, raw    string
}

var worldTenants = []string{"default", "busy", ""}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ledger: newLedger(), past: &archived{}, log: map[string][]committed{}}
	w.ledger.archiveOn()
	w.ledger.note("busy", "made")
	w.backup = w.ledger.state()
	for i := range 3 {
		n := &worldNode{node: newNode(w.ledger), archive: i > 0}
		deps := api.Deps{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: n.node, Resources: plainResources{}}
		if n.archive {
			deps.Past = w.past
		}
		server, err := api.New(api.Config{EventPing: 3 * time.Millisecond, EventWrite: 40 * time.Millisecond}, deps)
		if err != nil {
			t.Fatal(err)
		}
		n.server = httptest.NewUnstartedServer(server.Handler())
		n.server.Listener = narrow{n.server.Listener}
		n.server.Start()
		t.Cleanup(n.server.Close)
		w.nodes = append(w.nodes, n)
	}
	w.record()
	return w
}

// narrow has connections hold little, so that a slow reader is noticed soon.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.SetWriteBuffer(4<<10))
	}
	return c, err
}

// record notes what is new in the log; w.mu is held, or nobody else is there.
func (w *world) record() {
	after := uint64(0)
	for _, tenant := range worldTenants {
		if log := w.log[tenant]; len(log) > 0 {
			after = max(after, log[len(log)-1].index)
		}
	}
	for ev := range w.ledger.state().Events(0) {
		if ev.Index <= after {
			continue
		}
		raw, err := api.EncodeEvent(ev)
		if err != nil {
			w.t.Fatal(err)
		}
		c := committed{number: ev.TenantSeq, index: ev.Index, fleet: ev.Fleet, raw: string(raw)}
		if ev.Tenant == "" {
			c.number = ev.Seq
		}
		w.log[ev.Tenant] = append(w.log[ev.Tenant], c)
	}
}

// schedule runs one.
func (w *world) schedule(seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	done := make(chan struct{})
	var readers, others sync.WaitGroup
	for range 2 + rnd.IntN(4) {
		r := w.reader(rand.New(rand.NewPCG(rnd.Uint64(), 1)))
		readers.Go(func() { r.run(done) })
	}
	for _, n := range w.nodes {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), 2))
		others.Go(func() { n.stumble(mine, done) })
	}
	w.write(rnd)
	close(done)
	others.Wait()
	readers.Wait()
}

// write commits events, and forgets some.
func (w *world) write(rnd *rand.Rand) {
	for range 10 + rnd.IntN(60) {
		w.mu.Lock()
		switch p := rnd.IntN(100); {
		case p < 40:
			w.ledger.note("busy", strconv.FormatUint(rnd.Uint64(), 36))
		case p < 45:
			w.ledger.note("busy", strconv.FormatUint(rnd.Uint64(), 36)+strings.Repeat("x", 60<<10))
		case p < 55:
			w.ledger.note("default", strconv.FormatUint(rnd.Uint64(), 36))
		case p < 80:
			w.ledger.fleet("busy", string(rune('a'+rnd.IntN(3))), strconv.FormatUint(rnd.Uint64(), 36))
		case p < 88:
			on := w.ledger.state().ReadOnly() == nil
			w.ledger.readOnly(on)
			w.ledger.readOnly(!on)
		case p < 98:
			w.past.store(w.t, w.ledger)
			w.ledger.forget()
		case rnd.IntN(4) == 0:
			w.restores++
			w.ledger.restore(w.backup, "r"+strconv.FormatUint(rnd.Uint64(), 36))
		}
		w.record()
		w.mu.Unlock()
		if rnd.IntN(3) == 0 {
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
		}
	}
}

func (l *ledger) fleet(tenant, name, label string) {
	l.apply(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{
		Tenant: tenant, Name: name, Labels: map[string]string{"n": label},
	}}})
}

func (l *ledger) readOnly(on bool) {
	l.apply(&fsmpb.Command{Op: &fsmpb.Command_SetReadOnly{SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: on}}})
}

// stumble has a node lag for a while, or lose its connections.
func (n *worldNode) stumble(rnd *rand.Rand, done <-chan struct{}) {
	defer n.set(func(n *node) { n.stuck, n.frozen = false, nil })
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(rnd.IntN(8000)) * time.Microsecond):
		}
		switch rnd.IntN(6) {
		case 0:
			n.server.CloseClientConnections()
		case 1, 2:
			n.set(func(n *node) { n.stuck, n.frozen = true, n.ledger.state() })
		default:
			n.set(func(n *node) { n.frozen = nil })
		}
	}
}

// reader is one subscriber over all its connections.
type reader struct {
	w             *world
	rnd           *rand.Rand
	tenant, fleet string
	// at is the number of the last event, epoch the one of the last id.
	at    uint64
	epoch string
}

// reader begins somewhere, by a number or by an index.
func (w *world) reader(rnd *rand.Rand) *reader {
	r := &reader{w: w, rnd: rnd, tenant: worldTenants[rnd.IntN(len(worldTenants))]}
	if r.tenant == "busy" && rnd.IntN(2) == 0 {
		r.fleet = "a"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.log[r.tenant]
	// Near the end more often: the log is that of all schedules.
	back := min(len(log), 1<<rnd.IntN(12))
	if i := len(log) - rnd.IntN(back+1); i > 0 {
		r.at = log[i-1].number
	}
	return r
}

// run subscribes again and again, and, when the log is complete, to its end.
func (r *reader) run(done <-chan struct{}) {
	for !r.w.t.Failed() {
		last := false
		select {
		case <-done:
			last = true
		default:
		}
		if r.stream(done, last) && last {
			return
		}
	}
}

// stream reads one stream for a while; with last, to the end of the log. It
// reports whether it got there.
func (r *reader) stream(done <-chan struct{}, last bool) bool {
	n := r.w.nodes[r.rnd.IntN(len(r.w.nodes))]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !last { // nothing more may come once the log is complete
		go func() {
			select {
			case <-done:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	s, err := r.open(ctx, n, last)
	if err != nil {
		r.failed(n, err)
		return false
	}
	defer s.close()
	r.w.count(&r.w.streams)
	many := r.rnd.IntN(40)
	for i := 0; last || i < many; i++ {
		d, err := s.next()
		if sse, ok := s.(*serverSent); ok && sse.id != "" {
			r.epoch, _, _ = strings.Cut(sse.id, "/")
		}
		if errors.Is(err, io.EOF) && last {
			return true
		}
		if err != nil {
			r.failed(n, err)
			return false
		}
		r.got(d)
		if r.rnd.IntN(10) == 0 {
			time.Sleep(time.Duration(r.rnd.IntN(3000)) * time.Microsecond)
		}
		if r.rnd.IntN(100) == 0 {
			time.Sleep(80 * time.Millisecond) // longer than the node has patience
		}
	}
	return false
}

// open subscribes behind the last event, one way or another.
func (r *reader) open(ctx context.Context, n *worldNode, last bool) (subscriber, error) {
	query := "follow=" + strconv.FormatBool(!last)
	if r.fleet != "" {
		query += "&fleet=" + r.fleet
	}
	number := strconv.FormatUint(r.at, 10)
	since, header := "&since="+number, []string{}
	if r.epoch != "" && r.rnd.IntN(2) == 0 {
		since, header = "&since=0", []string{wire.HeaderLastEventID, r.epoch + "/" + number}
	}
	if r.rnd.IntN(3) == 0 {
		if r.tenant != "" {
			query += "&tenant=" + r.tenant
		}
		return dialOr(ctx, n.server.URL+"/api/v1/ws?"+query+"&since="+number)
	}
	path := "/api/v1/cluster/events?"
	if r.tenant != "" {
		path = "/api/v1/tenants/" + r.tenant + "/events?"
	}
	s, err := subscribe(ctx, n.server.URL+path+query+since, header...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func dialOr(ctx context.Context, url string) (subscriber, error) {
	s, err := dial(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// got holds an event against the log.
func (r *reader) got(d delivery) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.delivered++
	for _, c := range r.w.log[r.tenant] {
		if c.number <= r.at || r.fleet != "" && c.fleet != r.fleet {
			continue
		}
		if c.raw != d.raw {
			r.w.t.Errorf("tenant %q fleet %q after %d: got\n%.300s\nwant\n%.300s", r.tenant, r.fleet, r.at, d.raw, c.raw)
		}
		r.at = c.number
		return
	}
	r.w.t.Errorf("tenant %q fleet %q after %d: got\n%.300s\nwhich the log does not have", r.tenant, r.fleet, r.at, d.raw)
}

// failed takes note of a stream's end, if it may end so.
func (r *reader) failed(n *worldNode, err error) {
	p, told := errors.AsType[*wire.Problem](err)
	if !told {
		return // the connection was cut
	}
	switch p.Code {
	case wire.CodeEpochChanged:
		r.epoch = ""
	case wire.CodeTooSlow:
		r.w.count(&r.w.cut)
	case wire.CodeEventsGone:
		if r.w.count(&r.w.gone); n.archive || p.Oldest <= r.at+1 {
			r.w.t.Errorf("tenant %q after %d: %v, oldest %d, although %v", r.tenant, r.at, p, p.Oldest, n.archive)
		}
	default:
		r.w.t.Errorf("tenant %q after %d: %v", r.tenant, r.at, p)
	}
}

func (w *world) count(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}

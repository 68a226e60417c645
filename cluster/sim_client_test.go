package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// simAttempt is how long a client waits for one answer, simAttempts how
	// often it asks for the same thing.
	simAttempt  = 3 * time.Second
	simAttempts = 5
	// simKeys is how many services and how many fleets there are: few, so that
	// the clients meet.
	simKeys = 2
)

// simClient calls random nodes, one operation at a time, as a client of REST
// would: what a node said that has crashed meanwhile was not heard.
type simClient struct {
	sim  *simulation
	id   int
	rand *rand.Rand
	// index is the newest that this client saw acknowledged, revisions the
	// newest of each fleet.
	index     uint64
	revisions map[string]uint64
}

func newSimClient(s *simulation, id int) *simClient {
	return &simClient{sim: s, id: id, rand: rand.New(rand.NewPCG(s.seed, uint64(100+id))), revisions: map[string]uint64{}}
}

func (c *simClient) note(o *history.Operation, how string) {
	c.sim.history.End(o, how)
	c.sim.trace.note(fmt.Sprintf("c%d", c.id), "%+v", *o)
}

// run operates until ctx ends.
func (c *simClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.operate(context.WithoutCancel(ctx))
		c.pause(ctx, 600*time.Millisecond)
	}
}

func (c *simClient) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(c.rand.Int64N(int64(d)))):
		return true
	}
}

// operate does one random thing.
func (c *simClient) operate(ctx context.Context) {
	service, fleet := simService(c.rand.IntN(simKeys)), simFleet(c.rand.IntN(simKeys))
	switch n := c.rand.IntN(10); {
	case n < 3:
		c.put(ctx, service)
	case n < 5:
		c.get(ctx, service)
	case n < 6:
		c.change(ctx, fleet, nil)
	case n < 8:
		// What another one has changed meanwhile makes it a conflict.
		if last := c.last(ctx, fleet); last.End == history.Applied {
			c.change(ctx, fleet, &last.Revision)
		}
	case n < 9:
		c.last(ctx, fleet)
	default:
		c.readBack(ctx, fleet)
	}
}

func simService(i int) string { return "service-" + strconv.Itoa(i) }
func simFleet(i int) string   { return "fleet-" + strconv.Itoa(i) }

// An operation's id is in what it writes.
func textOf(operation int) string { return "op " + strconv.Itoa(operation) }

func operationOf(text string) int {
	id, _ := strconv.Atoi(strings.TrimPrefix(text, "op "))
	return id
}

func (c *simClient) put(ctx context.Context, service string) {
	o := c.sim.history.Begin(c.id, history.Put, service)
	body := []byte(textOf(o.ID))
	c.write(ctx, o, &fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: fsm.DefaultTenant, Service: service, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
	}}})
}

func (c *simClient) change(ctx context.Context, fleet string, expect *uint64) {
	kind := history.Append
	if expect != nil {
		kind = history.CAS
	}
	o := c.sim.history.Begin(c.id, kind, fleet)
	if expect != nil {
		o.Expect = *expect
	}
	body := []byte(textOf(o.ID))
	c.write(ctx, o, &fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: fsm.DefaultTenant, Fleet: fleet, ExpectRevision: expect, Force: true, Message: textOf(o.ID),
		Upsert: []*fsmpb.Resource{{TypeUrl: fsm.TypeRuntime, Name: "r", Body: body, Hash: fsm.ResourceHash(body, nil, 0)}},
	}}})
}

// write asks for one write until a node decides it, always under one key.
func (c *simClient) write(ctx context.Context, o *history.Operation, command *fsmpb.Command) {
	open := false
	for attempt := range simAttempts {
		key := fmt.Sprintf("%d-%d", c.id, o.ID)
		if c.sim.plan.freshKeys {
			key += "-" + strconv.Itoa(attempt)
		}
		command.Idempotency = &fsmpb.IdempotencyKey{Key: key, RequestHash: []byte(key)}
		result, how := c.propose(ctx, o, command)
		switch how {
		case history.Applied:
			o.Index, o.Revision = result.GetIndex(), result.GetRevision()
			c.index = max(c.index, o.Index)
			c.revisions[o.Key] = max(c.revisions[o.Key], o.Revision)
			c.note(o, how)
			return
		case history.Refused:
			c.note(o, how)
			return
		case history.Unknown:
			open = true
		}
		c.pause(ctx, 300*time.Millisecond)
	}
	if open {
		c.note(o, history.Unknown)
	} else {
		c.note(o, history.Nothing)
	}
}

// propose makes one attempt at a write.
func (c *simClient) propose(ctx context.Context, o *history.Operation, command *fsmpb.Command) (*fsmpb.Result, string) {
	x := c.anyNode()
	if x == nil {
		o.Attempts = append(o.Attempts, "nobody listens")
		return nil, history.Nothing
	}
	ctx, cancel := context.WithTimeout(ctx, simAttempt)
	defer cancel()
	result, err := x.node.Propose(ctx, command)
	if err == nil {
		err = fsm.ResultError(result)
	}
	o.Attempts = append(o.Attempts, fmt.Sprintf("%s: %v", x.host.id, err))
	switch code := fsm.CodeOf(err); {
	case x.crashed():
		o.Attempts = append(o.Attempts, "which crashed")
		return nil, history.Unknown
	case err == nil:
		return result, history.Applied
	case code == fsm.CodeRevisionConflict:
		return nil, history.Refused
	case code == fsm.CodeOutcomeUnknown:
		return nil, history.Unknown
	case code == fsm.CodeNoLeader, code == fsm.CodeUnavailable, code == fsm.CodeStorageFull, code == fsm.CodeTimeout:
		return nil, history.Nothing
	}
	c.sim.checks.broken("%v is no answer to a good request", err)
	return nil, history.Unknown
}

// read waits until a node has the state at an index: that of a strong read, or
// a given one.
func (c *simClient) read(ctx context.Context, o *history.Operation, index *uint64) *fsm.State {
	for range 2 {
		if st := c.readOnce(ctx, o, index); st != nil {
			o.Index = st.Index()
			return st
		}
		c.pause(ctx, 300*time.Millisecond)
	}
	return nil
}

func (c *simClient) readOnce(ctx context.Context, o *history.Operation, index *uint64) *fsm.State {
	x := c.anyNode()
	if x == nil {
		o.Attempts = append(o.Attempts, "nobody listens")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, simAttempt)
	defer cancel()
	var err error
	if index == nil {
		index = new(uint64)
		*index, err = x.node.ReadIndex(ctx)
	}
	var st *fsm.State
	if err == nil {
		st, err = x.node.WaitApplied(ctx, *index)
	}
	o.Attempts = append(o.Attempts, fmt.Sprintf("%s: %v", x.host.id, err))
	if err != nil || x.crashed() {
		return nil
	}
	return st
}

// get reads the endpoints of a service.
func (c *simClient) get(ctx context.Context, service string) {
	o := c.sim.history.Begin(c.id, history.Get, service)
	st := c.read(ctx, o, nil)
	if st == nil {
		c.note(o, history.Unknown)
		return
	}
	e, _ := st.Endpoints(fsm.DefaultTenant, service)
	o.Value = operationOf(string(e.GetBody()))
	c.note(o, history.Applied)
}

// last reads the newest revision of a fleet.
func (c *simClient) last(ctx context.Context, fleet string) *history.Operation {
	o := c.sim.history.Begin(c.id, history.Last, fleet)
	st := c.read(ctx, o, nil)
	if st == nil {
		c.note(o, history.Unknown)
		return o
	}
	newestOf(st, o)
	c.note(o, history.Applied)
	return o
}

func newestOf(st *fsm.State, o *history.Operation) {
	if r, ok := st.Revision(fsm.DefaultTenant, o.Key, 0); ok {
		o.Revision, o.Value = r.Info.GetRevision(), operationOf(r.Info.GetMessage())
	}
}

// readBack reads from any node what this client has seen acknowledged. Such a
// read may be behind the others' writes, and is not part of the history.
func (c *simClient) readBack(ctx context.Context, fleet string) {
	o := c.sim.history.Begin(c.id, history.Last, fleet)
	st := c.read(ctx, o, &c.index)
	if st == nil {
		return
	}
	if newestOf(st, o); o.Index < c.index || o.Revision < c.revisions[fleet] {
		c.sim.checks.broken("client %d wants revision %d of %s at index %d, and reads %d at %d: %q",
			c.id, c.revisions[fleet], fleet, c.index, o.Revision, o.Index, o.Attempts)
	}
}

// anyNode returns a random node, nil when none runs there.
func (c *simClient) anyNode() *simNode {
	return c.sim.net.at(c.sim.hosts[c.rand.IntN(len(c.sim.hosts))].id)
}

package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
)

// TenantPath is that of the tenant that clients write to.
const TenantPath = wire.Prefix + "/tenants/default"

// Keys are what the clients of one round write to: few, so that they meet.
type Keys struct{ Services, Fleets []string }

// KeysOfRound returns keys that no other round has.
func KeysOfRound(round int) Keys {
	var k Keys
	for i := range 4 {
		k.Services = append(k.Services, fmt.Sprintf("service-%d-%d", round, i))
		k.Fleets = append(k.Fleets, fmt.Sprintf("fleet-%d-%d", round, i))
	}
	return k
}

// Run runs clients until ctx ends, and returns when the last one has.
func Run(ctx context.Context, k Keys, clients []*Client) {
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				c.operate(context.WithoutCancel(ctx), k)
				c.pause(ctx, 60*time.Millisecond)
			}
		})
	}
	group.Wait()
}

// operate does one random thing.
func (c *Client) operate(ctx context.Context, k Keys) {
	service, fleet := k.Services[c.rand.IntN(len(k.Services))], k.Fleets[c.rand.IntN(len(k.Fleets))]
	switch n := c.rand.IntN(10); {
	case n < 3:
		c.Put(ctx, service)
	case n < 5:
		c.get(ctx, service, "consistency=strong")
	case n < 6:
		c.change(ctx, fleet, nil)
	case n < 8:
		// What another one has changed meanwhile makes it a conflict.
		if last := c.last(ctx, fleet, "consistency=strong"); last.End == history.Applied {
			c.change(ctx, fleet, &last.Revision)
		}
	case n < 9:
		c.last(ctx, fleet, "consistency=strong")
	default:
		c.readBack(ctx, fleet)
	}
}

// Put writes the endpoints of a service.
func (c *Client) Put(ctx context.Context, service string) {
	o := c.History.Begin(c.ID, history.Put, service)
	c.write(ctx, o, http.MethodPut, TenantPath+"/endpoints/"+service, assignment(o.ID))
}

func assignment(id int) any {
	return json.RawMessage(fmt.Sprintf(`{"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address":
		{"address": %q, "port_value": 80}}}}]}]}`, addressOf(id)))
}

func (c *Client) change(ctx context.Context, fleet string, expect *uint64) {
	kind := history.Append
	if expect != nil {
		kind = history.CAS
	}
	o := c.History.Begin(c.ID, kind, fleet)
	if expect != nil {
		o.Expect = *expect
	}
	runtime := fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.service.runtime.v3.Runtime", "name": "r", "layer": {"op": %d}}`, o.ID)
	c.write(ctx, o, http.MethodPost, TenantPath+"/fleets/"+fleet+"/changes", wire.ChangeSet{
		Message: messageOf(o.ID), ExpectRevision: expect, Upsert: []json.RawMessage{json.RawMessage(runtime)},
	})
}

// get reads the endpoints of a service.
func (c *Client) get(ctx context.Context, service, query string) *history.Operation {
	o := c.History.Begin(c.ID, history.Get, service)
	var got struct{ Resource json.RawMessage }
	if !c.read(ctx, o, TenantPath+"/endpoints/"+service+"?"+query, &got) {
		c.History.End(o, history.Unknown)
		return o
	}
	o.Value = WriterOf(string(got.Resource))
	c.History.End(o, history.Applied)
	return o
}

// last reads the newest revision of a fleet.
func (c *Client) last(ctx context.Context, fleet, query string) *history.Operation {
	o := c.History.Begin(c.ID, history.Last, fleet)
	if !c.newest(ctx, o, query) {
		c.History.End(o, history.Unknown)
		return o
	}
	c.History.End(o, history.Applied)
	return o
}

func (c *Client) newest(ctx context.Context, o *history.Operation, query string) bool {
	var page wire.List[wire.Revision]
	if !c.read(ctx, o, TenantPath+"/fleets/"+o.Key+"/revisions?limit=1&"+query, &page) {
		return false
	}
	for _, r := range page.Items {
		o.Revision, o.Value = r.Revision, WriterOf(r.Message)
	}
	return true
}

// readBack reads from any node what this client has seen acknowledged. Such a
// read may be behind the others' writes, and is not part of the history.
func (c *Client) readBack(ctx context.Context, fleet string) {
	want := c.index
	o := c.History.Begin(c.ID, history.Last, fleet)
	if !c.newest(ctx, o, "min_index="+strconv.FormatUint(want, 10)) {
		return
	}
	if o.Index < want || o.Revision < c.revisions[fleet] {
		c.Broken("client %d wants revision %d of %s at index %d, and reads %d at %d: %q",
			c.ID, c.revisions[fleet], fleet, want, o.Revision, o.Index, o.Attempts)
	}
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// maxHold is how long one request asks a node to hold its answer back; a
// longer wait is several requests, so that a node may go meanwhile.
const maxHold = 15 * time.Second

// await waits until a fleet's connected proxies have a revision and says who
// does not. Its errors carry the exit codes of a wait.
func (a *app) await(
	ctx context.Context, c *client.Client, fleet string, revision uint64, wait time.Duration,
) (*wire.FleetStatus, error) {
	until := time.Now().Add(wait)
	for {
		left := max(time.Until(until), 0)
		hold := min(left, maxHold)
		status, err := c.FleetStatus(ctx, fleet, client.StatusQuery{Revision: revision, Wait: hold.Round(time.Millisecond)})
		if err != nil {
			return nil, fmt.Errorf("wait for revision %d: %w", revision, err)
		}
		if status.Proxies.Rejected > 0 || status.Converged || time.Until(until) <= 0 {
			return status, a.sayStatus(status, wait)
		}
		if hold < time.Second { // in case a node does not hold at all
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// sayStatus tells people where the proxies are and returns what it means for
// the exit code.
func (a *app) sayStatus(s *wire.FleetStatus, wait time.Duration) error {
	n := s.Proxies
	switch {
	case n.Connected == 0:
		a.say("revision %d: no proxy is connected", s.Revision)
	case s.Converged:
		a.say("revision %d: %s, all synced", s.Revision, plural(n.Connected, "connected proxy"))
	default:
		a.say("revision %d: %d of %s synced, %d rejected, %d pending",
			s.Revision, n.Synced, plural(n.Connected, "connected proxy"), n.Rejected, n.Pending)
	}
	a.sayLaggards(s)
	switch {
	case n.Rejected > 0:
		return &exitError{code: exitRejected, err: fmt.Errorf("%s revision %d", verb(n.Rejected, "rejects", "reject"), s.Revision)}
	case !s.Converged:
		return &exitError{code: exitWait, err: fmt.Errorf("not all proxies had revision %d after %s", s.Revision, wait)}
	default:
		return nil
	}
}

func verb(n int, one, many string) string {
	if n == 1 {
		return "1 proxy " + one
	}
	return fmt.Sprintf("%d proxies %s", n, many)
}

// sayLaggards lists the proxies that reject or miss the revision.
func (a *app) sayLaggards(s *wire.FleetStatus) {
	if !a.forPeople() || len(s.Rejections)+len(s.Pending)+len(s.Missing) == 0 {
		return
	}
	t := newTable(a.out)
	t.row("PROXY", "STATE", "TYPE", "DETAIL")
	for _, r := range s.Rejections {
		t.row(r.Proxy, wire.SyncRejected, r.Type, r.Detail)
	}
	for _, p := range s.Pending {
		detail := fmt.Sprintf("has revision %d", p.Revision)
		if p.WaitingFor != "" {
			detail += ", waiting for " + p.WaitingFor
		}
		t.row(p.Proxy, wire.SyncPending, "", detail)
	}
	_ = t.flush() // as say
	if more := s.Proxies.Pending - len(s.Pending); more > 0 && len(s.Pending) > 0 {
		a.say("and %d more pending", more)
	}
	for _, m := range s.Missing {
		a.say("node %s does not tell of its proxies: %s", clean(m.Node), clean(m.Reason))
	}
}

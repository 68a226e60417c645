package gossip

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// look resolves every name to join and joins the addresses that are not
// members yet. It reports whether all of them have answered.
func (g *Gossip) look(ctx context.Context) bool {
	addresses, unknown := g.Addresses(ctx)
	g.mu.Lock()
	list := g.list
	g.mu.Unlock()
	if list == nil {
		return true
	}
	known := map[string]bool{}
	for _, m := range g.Members() {
		known[m.GossipAddress] = true
	}
	var (
		silent atomic.Int64
		wg     sync.WaitGroup
	)
	for _, a := range addresses {
		if known[a] {
			continue
		}
		wg.Go(func() {
			if n, err := list.Join([]string{a}); err != nil || n == 0 {
				silent.Add(1)
			}
		})
	}
	wg.Wait()
	return silent.Load() == 0 && len(unknown) == 0
}

// Addresses returns the gossip addresses behind the names to join, this node's
// own left out, and the names that have none.
func (g *Gossip) Addresses(ctx context.Context) (addresses, unknown []string) {
	for _, name := range g.cfg.Join {
		host, port, err := net.SplitHostPort(name)
		if err != nil {
			host, port = name, strconv.Itoa(g.cfg.Port)
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			g.cfg.Log.Debug("gossip: cannot look up a name to join", "name", name, "error", err)
			unknown = append(unknown, name)
		}
		for _, ip := range ips {
			addresses = append(addresses, net.JoinHostPort(ip, port))
		}
	}
	g.mu.Lock()
	self := g.self
	g.mu.Unlock()
	addresses = slices.DeleteFunc(addresses, func(a string) bool { return a == self })
	slices.Sort(addresses)
	return slices.Compact(addresses), unknown
}

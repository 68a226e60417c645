package xds

import (
	"cmp"
	"slices"
	"strings"
)

// hosts finds the virtual host that a request's host leads to, as Envoy does:
// by the exact domain, else by the longest suffix, else by the longest prefix,
// else by "*". A wildcard stands for one character at least. What stands
// before the last slash of a name or alias is the route configuration.
type hosts map[string]*domains

// domains are those of one route configuration's virtual hosts.
type domains struct {
	exact              map[string]*item
	suffixes, prefixes patterns
	rest               *item
}

// patterns are the fixed parts of domains with a wildcard.
type patterns struct {
	hosts   map[string]*item
	lengths []int // longest first
}

func newHosts(items []*item) hosts {
	h := hosts{}
	for _, i := range items {
		for _, alias := range i.aliases {
			config, domain := splitHost(alias)
			if h[config] == nil {
				h[config] = &domains{exact: map[string]*item{}}
			}
			h[config].add(domain, i)
		}
	}
	return h
}

// splitHost splits "<route config>/<host>"; case does not matter in hosts.
func splitHost(name string) (config, host string) {
	slash := strings.LastIndexByte(name, '/')
	return name[:max(slash, 0)], strings.ToLower(name[slash+1:])
}

// add notes a domain. Of two virtual hosts with the same, which Envoy would
// refuse, the first stays.
func (d *domains) add(domain string, i *item) {
	suffix, starts := strings.CutPrefix(domain, "*")
	prefix, ends := strings.CutSuffix(domain, "*")
	switch {
	case domain == "*":
		d.rest = cmp.Or(d.rest, i)
	case starts:
		d.suffixes.add(suffix, i)
	case ends:
		d.prefixes.add(prefix, i)
	case d.exact[domain] == nil:
		d.exact[domain] = i
	}
}

func (p *patterns) add(fixed string, i *item) {
	if p.hosts == nil {
		p.hosts = map[string]*item{}
	}
	if p.hosts[fixed] == nil {
		p.hosts[fixed] = i
	}
	longestFirst := func(a, b int) int { return cmp.Compare(b, a) }
	if at, ok := slices.BinarySearchFunc(p.lengths, len(fixed), longestFirst); !ok {
		p.lengths = slices.Insert(p.lengths, at, len(fixed))
	}
}

// longest returns the virtual host of the longest pattern that is the part of
// the host that cut returns for its length.
func (p *patterns) longest(host string, cut func(length int) string) *item {
	for _, n := range p.lengths {
		if n >= len(host) {
			continue
		}
		if i := p.hosts[cut(n)]; i != nil {
			return i
		}
	}
	return nil
}

// find returns the virtual host that answers for a name, nil for none.
func (h hosts) find(name string) *item {
	config, host := splitHost(name)
	d := h[config]
	if d == nil || host == "" {
		return nil
	}
	return cmp.Or(
		d.exact[host],
		d.suffixes.longest(host, func(n int) string { return host[len(host)-n:] }),
		d.prefixes.longest(host, func(n int) string { return host[:n] }),
		d.rest,
	)
}

// answers returns what a subscription to virtual hosts gets. A name in it may
// be that of a virtual host, a host that one answers for, or both; one item
// answers for all the hosts that lead to it, and one that says so stands for
// each name that leads nowhere.
func (s *set) answers(sub *subscription) []*item {
	asked := map[*item][]string{}
	var out []*item
	for _, name := range sub.names {
		byName, byHost := find(s.items, name), s.hosts().find(name)
		if byName != nil {
			asked[byName] = slices.Clip(asked[byName])
		}
		if byHost != nil {
			asked[byHost] = append(asked[byHost], name)
		}
		if byName == nil && byHost == nil {
			out = append(out, &item{name: name, state: absent})
		}
	}
	for i, names := range asked {
		out = append(out, i.answering(names))
	}
	slices.SortFunc(out, func(a, b *item) int { return strings.Compare(a.name, b.name) })
	if sub.wildcard {
		return overlay(s.items, out)
	}
	return out
}

// answering returns the item with the names that it answers for among its
// aliases.
func (i *item) answering(names []string) *item {
	if len(names) == 0 {
		return i
	}
	a := *i
	a.asked = names
	a.aliases = sortedSet(slices.Concat(i.aliases, names))
	return &a
}

// asks reports whether an item is asked for, by its name or one that it
// answers for.
func (s *subscription) asks(i *item) bool {
	return s != nil && (s.has(i.name) || slices.ContainsFunc(i.asked, s.has))
}

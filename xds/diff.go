package xds

import "slices"

// diff is what leads a proxy from one content to another.
type diff struct {
	changed []*item
	// removed names include those that were asked for and are not there.
	removed []string
	// missed are names asked for on demand that lead nowhere.
	missed []*item
}

func (d diff) empty() bool { return len(d.changed)+len(d.removed)+len(d.missed) == 0 }

// compare returns what leads from one content (nil: nothing) to another.
// Forced names are part of it even when they have not changed.
func compare(from, to *content, forced *subscription) diff {
	var d diff
	walk(from, to, func(had, now *item) {
		switch {
		case now == nil:
			// A name that only `from` has was unsubscribed from, or, under a
			// wildcard, is gone.
			if to.whole && (had.state != absent || forced.has(had.name)) {
				d.removed = append(d.removed, had.name)
			}
		case now.state == doubtful || now.state == claimed:
			// Parked, or the proxy's own: not to be sent.
		case had != nil && now.sameAs(had) && !forced.asks(now):
		case now.state == absent && to.kind.onDemand:
			d.missed = append(d.missed, now)
		case now.state == absent:
			d.removed = append(d.removed, now.name)
		default:
			d.changed = append(d.changed, now)
		}
	})
	if forced != nil && to.whole {
		d.tellMissing(from, to, forced)
	}
	return d
}

// tellMissing adds the forced names that neither content knows.
func (d *diff) tellMissing(from, to *content, forced *subscription) {
	answered := map[string]struct{}{}
	if to.kind.onDemand {
		for _, i := range to.items {
			for _, name := range i.asked {
				answered[name] = struct{}{}
			}
		}
	}
	for _, name := range forced.names {
		if _, ok := answered[name]; !ok && to.find(name) == nil && from.find(name) == nil {
			d.removed = append(d.removed, name)
		}
	}
	slices.Sort(d.removed)
}

// services returns the sorted names of the endpoints that changed clusters
// ask for.
func (d diff) services() []string {
	var names []string
	for _, i := range d.changed {
		names = append(names, i.services...)
	}
	return sortedSet(names)
}

// changedIn reports whether a content of the state says something else about
// the names in d than d does.
func (d diff) changedIn(c *content) bool {
	for _, i := range d.changed {
		if now := c.find(i.name); now == nil || !now.sameAs(i) {
			return true
		}
	}
	for _, name := range d.removed {
		if now := c.find(name); now != nil && now.state != absent {
			return true
		}
	}
	for _, i := range d.missed {
		if now := c.find(i.name); now == nil || now.state != absent {
			return true
		}
	}
	return false
}

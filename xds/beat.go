package xds

import "time"

// minBeat bounds how often a resource's time to live is renewed: one that
// lives for less than twice of it expires in between.
const minBeat = 50 * time.Millisecond

// beatEvery is the time between heartbeats: half of the shortest time to live.
// Those that live longer are part of every second, third, ... one.
func (c *content) beatEvery() int64 { return int64(max(c.ttl/2, minBeat)) }

// beatKey is what decides a heartbeat's bytes, next to the content.
type beatKey struct {
	protocol protocol
	sub      *subscription
	// Heartbeats happen at multiples of beatEvery since the epoch, so that all
	// streams mean the same by their numbers: after the one, through the other.
	after, through int64
	bodies         bool
}

// heartbeat returns the response that renews the times to live of what a
// stream's proxy has accepted, if one is due and nothing of the type is under
// way. It notes when the next is.
func (g *gates) heartbeat() *message {
	st := g.stream
	if !st.ttl {
		return nil
	}
	for _, t := range st.types {
		c := t.acked
		if c == nil || c.ttl == 0 || t.beatless == c {
			continue
		}
		every := c.beatEvery()
		tick := g.now.UnixNano() / every
		if next := (tick + 1) * every; g.beat == 0 || next < g.beat {
			g.beat = next
		}
		if t.out != nil || t.beatAt/every >= tick {
			continue // with the answer the stream looks again
		}
		f := st.server.encoder.beat(c, beatKey{st.protocol, t.sub, t.beatAt / every, tick, t.beatBodies})
		t.beatAt = g.now.UnixNano()
		if f.body != nil {
			return st.takeBeat(t, f, g.now)
		}
	}
	return nil
}

// takeBeat makes a heartbeat the response under way of a type. What the proxy
// has stays as it is.
func (st *stream) takeBeat(t *subscribed, f *frame, now time.Time) *message {
	st.nonces++
	t.out, t.outNonce, t.outAt = f, nonce{st.number, st.nonces}, now
	t.kind.metrics.pushes.Inc()
	t.kind.metrics.pushBytes.Add(float64(len(f.body)))
	return &message{frame: f, nonce: t.outNonce}
}

// beatRejected falls back to heartbeats with bodies, and gives up on a content
// when the proxy rejects those too.
func (st *stream) beatRejected(t *subscribed, f *frame, r *request) {
	t.kind.metrics.rejections.Inc()
	if !f.bare {
		t.beatless = t.acked
	}
	t.beatBodies = true
	st.server.log.Warn("proxy rejected a heartbeat", "tenant", st.id.Tenant, "fleet", st.id.Fleet,
		"proxy", st.id.Proxy, "type", t.kind.name, "bodies", !f.bare, "detail", r.rejectText)
}

// beat returns the heartbeat of a content; its body is nil when none of it is
// due.
func (e *encoder) beat(c *content, key beatKey) *frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.beats[key]; ok {
		return f
	}
	f := &frame{
		protocol: key.protocol, to: c, beat: true, ttl: true,
		diff: diff{changed: c.beating(key)},
		// A virtual host without a body says that there is none.
		bare: key.protocol == delta && !key.bodies && !c.kind.onDemand,
	}
	switch {
	case len(f.diff.changed) == 0:
	case key.protocol == delta:
		f.body = e.delta(f)
		e.metrics.encoded.Inc()
	case c.kind.full:
		f.body = e.whole(c, true)
	default:
		f.body = e.state(c, f.diff.changed, nil, true)
		e.metrics.encoded.Inc()
	}
	f.ready()
	if !c.lone() {
		if c.beats == nil || len(c.beats) >= maxBeats {
			c.beats = map[beatKey]*frame{}
		}
		c.beats[key] = f
	}
	return f
}

// maxBeats bounds the heartbeats that a content remembers: the newest number
// in its variants.
const maxBeats = 8

// beating returns the items that a heartbeat renews.
func (c *content) beating(key beatKey) []*item {
	var out []*item
	for _, i := range c.items {
		if i.ttl == 0 || !i.held() || !key.sub.wildcard && !c.kind.onDemand && !key.sub.has(i.name) {
			continue
		}
		if n := max(int64(i.ttl/c.ttl), 1); key.through/n > key.after/n {
			out = append(out, i)
		}
	}
	return out
}

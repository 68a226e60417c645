package xds

import (
	"context"
	"math"
	"sync"
	"time"
)

// beats wakes streams when a heartbeat of theirs is due. Streams of one
// content are due at the same times, so that one timer serves them all.
type beats struct {
	mu    sync.Mutex
	due   map[int64]map[*stream]struct{} // by time
	of    map[*stream]int64
	next  int64         // what run waits for
	moved chan struct{} // capacity 1
}

func newBeats() *beats {
	return &beats{
		due: map[int64]map[*stream]struct{}{}, of: map[*stream]int64{},
		next: math.MaxInt64, moved: make(chan struct{}, 1),
	}
}

// schedule makes a time (nanoseconds since the Unix epoch) the one at which a
// stream is woken; 0: not at all.
func (b *beats) schedule(st *stream, at int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if was, ok := b.of[st]; ok {
		delete(b.of, st)
		delete(b.due[was], st)
		if len(b.due[was]) == 0 {
			delete(b.due, was)
		}
	}
	if at == 0 {
		return
	}
	b.of[st] = at
	if b.due[at] == nil {
		b.due[at] = map[*stream]struct{}{}
	}
	b.due[at][st] = struct{}{}
	if at < b.next {
		b.next = at
		select {
		case b.moved <- struct{}{}:
		default:
		}
	}
}

// run wakes streams until the context ends.
func (b *beats) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		streams, wait := b.take(time.Now())
		for _, st := range streams {
			st.wakeBeat()
		}
		if len(streams) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-b.moved:
		case <-timer.C:
		}
	}
}

// maxBeatWait bounds how long a step of the clock can keep heartbeats.
const maxBeatWait = time.Second

// take returns the streams that are due, or how long to wait for the next.
func (b *beats) take(now time.Time) ([]*stream, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*stream
	b.next = math.MaxInt64
	for at, streams := range b.due {
		if at > now.UnixNano() {
			b.next = min(b.next, at)
			continue
		}
		for st := range streams {
			out = append(out, st)
			delete(b.of, st)
		}
		delete(b.due, at)
	}
	if b.next == math.MaxInt64 {
		return out, time.Hour
	}
	return out, min(time.Duration(b.next-now.UnixNano()), maxBeatWait)
}

// wakeBeat lets the stream look whether a heartbeat is due.
func (st *stream) wakeBeat() {
	st.mu.Lock()
	st.beatAt = 0
	st.mu.Unlock()
	st.pump(false)
}

// beatNext sees to it that the stream is woken at a time; st.mu is held.
func (st *stream) beatNext(at int64) {
	if at != st.beatAt {
		st.beatAt = at
		st.server.beats.schedule(st, at)
	}
}

package xds

import "time"

// inlineBytes is how much may be unacknowledged on a stream for a send not to
// block: gRPC gives each stream a write quota of 64 KiB, and what has been
// acknowledged has left it.
const inlineBytes = 48 << 10

// pump sends whatever the stream is due. One goroutine at a time does it; who
// comes meanwhile asks that one to look again. A caller that must not wait
// hands over to a goroutine of its own where sending might.
func (st *stream) pump(mayBlock bool) { st.pumpAt(time.Now(), mayBlock) }

// pumpAt is pump for who knows the time.
func (st *stream) pumpAt(now time.Time, mayBlock bool) {
	st.mu.Lock()
	if st.sending {
		st.again = true
		st.mu.Unlock()
		return
	}
	st.sending = true
	st.flush(now, mayBlock)
}

// flush sends until nothing is due; st.mu and the right to send are held, and
// given back.
func (st *stream) flush(now time.Time, mayBlock bool) {
	for {
		m := st.next(now)
		if m == nil {
			if st.again && !st.closed {
				st.again = false
				continue
			}
			st.sending = false
			st.mu.Unlock()
			return
		}
		quiet := st.unacked < inlineBytes
		st.unacked += len(m.frame.body)
		if !mayBlock && !quiet {
			go st.deliver(m)
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		err := st.rpc.SendMsg(m)
		if !quiet {
			now = time.Now() // it may have waited
		}
		st.mu.Lock()
		if err != nil {
			st.giveUp()
			return
		}
	}
}

// deliver sends a message that may have to wait for the proxy to read, and
// whatever is due after it.
func (st *stream) deliver(m *message) {
	err := st.rpc.SendMsg(m)
	st.mu.Lock()
	if err != nil {
		st.giveUp()
		return
	}
	st.flush(time.Now(), true)
}

// giveUp leaves a broken stream to its reader, which learns of it by itself;
// st.mu is held and given back.
func (st *stream) giveUp() {
	st.closed, st.sending = true, false
	st.mu.Unlock()
}

// wakeAt makes the stream look again at a time; zero: not by itself.
func (st *stream) wakeAt(now, at time.Time) {
	if at.IsZero() {
		if st.timer != nil {
			st.timer.Stop()
			st.timer = nil
		}
		return
	}
	d := max(at.Sub(now), time.Millisecond)
	if st.timer == nil {
		st.timer = time.AfterFunc(d, func() { st.pump(true) })
		return
	}
	st.timer.Reset(d)
}

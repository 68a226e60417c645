package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/api/feed"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// liveBatch is how many events a stream takes from memory at once.
const liveBatch = 64

// errExpired is why the context of a stream ends whose token has.
var errExpired = errors.New("the token has expired")

// errSlow is what a write says that the client did not take in time.
var errSlow = errors.New("the client does not read on")

// stream is one subscriber's events on their way. It keeps no queue: it goes
// through what the node holds at the client's pace.
type stream struct {
	s      *Server
	c      *call
	tenant string
	fleet  string
	kinds  []string
	follow bool
	// index is of the state that the request saw: without follow it ends there.
	index  uint64
	reader *feed.Reader
	// past is the next page of the archive; nil once memory has the rest.
	past []wire.Event
}

// sink is how events get to a client.
type sink interface {
	// event writes one event. It may stay in a buffer until flush.
	event(number uint64, json []byte) error
	flush() error
	// ping shows that the stream lives, and how far it has come.
	ping(number uint64) error
	// end says why the node ends the stream, nil for its proper end.
	end(p *wire.Problem)
}

// seek moves the stream to its beginning, in memory or else in the archive.
func (st *stream) seek(begin start) error {
	if begin.spot == nil {
		return nil
	}
	if !begin.byIndex {
		st.reader.Seek(begin.spot.number)
	} else if err := st.reader.SeekIndex(begin.spot.number); err != nil {
		if st.s.deps.Past == nil {
			return st.refusal(err)
		}
		number, err := st.s.deps.Past.NumberAt(st.c.ctx, st.tenant, begin.spot.number)
		if err != nil {
			return st.s.archiveRefusal(st.c, err)
		}
		st.reader.Seek(number)
	}
	return st.readPast(st.c.ctx)
}

// refusal turns an error of the reader into a problem.
func (st *stream) refusal(err error) error {
	if g, ok := errors.AsType[*feed.Gone](err); ok {
		return gone(g.Oldest)
	}
	if e, ok := errors.AsType[*feed.EpochChanged](err); ok {
		return refuse(wire.CodeEpochChanged, "the cluster was restored and goes on in epoch %s: read its state anew", e.Epoch)
	}
	return err
}

// run sends events until the client goes, the node ends the stream, or, without
// follow, all is told. It closes the stream.
func (st *stream) run(out sink) {
	defer st.reader.Close()
	ctx := st.c.ctx
	if at := st.c.subject.Expires; !at.IsZero() {
		limited, cancel := context.WithDeadlineCause(ctx, at, errExpired)
		defer cancel()
		ctx = limited
	}
	err := st.catchUp(ctx, out)
	if err == nil {
		err = st.live(ctx, out)
	}
	if ctx.Err() != nil && !errors.Is(err, errSlow) {
		err = context.Cause(ctx)
	}
	var end *wire.Problem
	switch {
	case err == nil:
	case errors.Is(err, errExpired):
		end = refuse(wire.CodeUnauthenticated, "%v", err)
	case errors.Is(err, errSlow):
		end = refuse(wire.CodeTooSlow, "%v", err)
	case errors.As(err, &end):
	case errors.Is(err, errLost), ctx.Err() != nil:
		return
	default:
		end = st.s.problemFor(st.c, err)
	}
	if end != nil {
		st.s.metrics.cut.WithLabelValues(string(end.Code)).Inc()
	}
	out.end(end)
}

// errLost wraps what a write to a client that is gone says.
var errLost = errors.New("the client is gone")

// live sends what memory has, and then what comes.
func (st *stream) live(ctx context.Context, out sink) error {
	ping := time.NewTicker(st.s.cfg.EventPing)
	defer ping.Stop()
	for {
		more, told, err := st.batch(out)
		if err != nil {
			return err
		}
		if told && !st.follow {
			return nil
		}
		select {
		case <-more:
		case <-ping.C:
			if err := out.ping(st.reader.At()); err != nil {
				return err
			}
		case <-st.s.draining:
			return errStopping()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func errStopping() error {
	return refuse(wire.CodeUnavailable, "the node is stopping; go on at another one")
}

// batch sends the next events. It returns a channel that is closed when there
// may be more, and whether all that the request could know of is told.
func (st *stream) batch(out sink) (<-chan struct{}, bool, error) {
	var room [liveBatch]*feed.Entry
	events, index, more, err := st.reader.Next(room[:])
	if _, fell := errors.AsType[*feed.Gone](err); fell {
		return nil, false, errSlow
	}
	if err != nil {
		return nil, false, st.refusal(err)
	}
	sent := 0
	for _, e := range events {
		if !st.selects(fsm.EventKind(e.Event), e.Event.GetFleet()) {
			continue
		}
		raw, err := st.reader.JSON(e)
		if err != nil {
			return nil, false, err
		}
		if err := out.event(e.Number(), raw); err != nil {
			return nil, false, err
		}
		sent++
	}
	if len(events) == len(room) {
		more = always()
	}
	return more, len(events) < len(room) && index >= st.index, st.flush(out, sent)
}

// always is a channel that does not let anybody wait.
func always() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (st *stream) flush(out sink, sent int) error {
	if sent == 0 {
		return nil
	}
	st.s.metrics.deliveries.Add(float64(sent))
	return out.flush()
}

func (st *stream) selects(kind, fleet string) bool {
	return (st.fleet == "" || st.fleet == fleet) && (st.kinds == nil || slices.Contains(st.kinds, kind))
}

// place returns the position of a number, as ids of events are.
func (st *stream) place(number uint64) string {
	return (&spot{epoch: st.reader.Epoch(), number: number}).String()
}

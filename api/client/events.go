package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// maxSilence is how long a stream may be silent: nodes show that they live
// every 15 s.
const maxSilence = time.Minute

// EventQuery selects events of the client's tenant.
type EventQuery struct {
	// Cluster asks for the events of the cluster itself instead.
	Cluster bool
	// Since is where to begin: behind the event of this tenant_seq (of this seq,
	// with Cluster), or of this id. Empty: behind the newest one.
	Since string
	// SinceIndex, in place of Since, begins behind this log index when it is above 0.
	SinceIndex uint64
	// Kinds and Fleet are all when empty.
	Kinds []string
	Fleet string
	// Once ends with the newest event that there is; else there is no end.
	Once bool
}

// Events follows what is committed. When a stream breaks it goes on behind the
// last event, at the next server, so that none is missing or comes twice. An error is
// the last thing that it yields.
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[wire.Event, error] {
	path := c.ofTenant("events")
	if q.Cluster {
		path = pathOf("cluster", "events")
	}
	query := queryOf("fleet", q.Fleet, "kind", strings.Join(q.Kinds, ","), "since", q.Since)
	if q.SinceIndex > 0 {
		query.Set("since_index", strconv.FormatUint(q.SinceIndex, 10))
	}
	if q.Once {
		query.Set("follow", "false")
	}
	return func(yield func(wire.Event, error) bool) {
		s := &eventStream{yield: yield}
		for barren := 0; ; barren++ {
			place, before := c.current.Load(), s.events
			err := c.do(ctx, &request{method: http.MethodGet, path: path, query: query, stateless: true, endless: true}, s)
			switch {
			case s.stopped, err == nil && s.cut == nil && q.Once:
				return
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case err == nil && goesOn(s.cut):
				if s.last != "" {
					query.Del("since_index")
					query.Set("since", s.last)
				}
				c.current.CompareAndSwap(place, (place+1)%int64(len(c.servers)))
				if s.events > before {
					barren = 0
				}
				if sleep(ctx, pauseAfter(barren)) {
					continue
				}
				err = context.Cause(ctx)
			}
			yield(wire.Event{}, cmp.Or(err, s.cut))
			return
		}
	}
}

// goesOn reports whether what ended a stream lets the next one begin where it
// was.
func goesOn(cut error) bool {
	e, told := errors.AsType[*Error](cut)
	return !told || e.Code == wire.CodeTooSlow || e.Status > http.StatusInternalServerError
}

// eventStream hands the events of one stream after the other on.
type eventStream struct {
	yield func(wire.Event, error) bool
	// last is the newest id; events counts.
	last   string
	events int
	// stopped: nobody wants more. cut is why the stream ended, nil when the node
	// has simply closed it.
	stopped bool
	cut     error
}

// take reads a stream to its end, whatever that is.
func (s *eventStream) take(server string, answer *http.Response) error {
	silence := time.AfterFunc(maxSilence, func() { _ = answer.Body.Close() })
	defer silence.Stop()
	lines := bufio.NewReader(answer.Body)
	// An id counts once its event is whole: the connection may break before.
	var id, data, kind string
	for s.cut = nil; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.cut = fmt.Errorf("read the events of %s: %w", server, err)
			}
			return nil
		}
		silence.Reset(maxSilence)
		switch field, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ": "); field {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if kind == "error" {
				e := answerError(server, answer, []byte(data))
				e.Status = e.Code.Status()
				s.cut = e
				return nil
			}
			if data != "" && !s.hand(data) {
				return nil
			}
			s.last = cmp.Or(id, s.last)
			id, data, kind = "", "", ""
		}
	}
}

// hand yields an event and reports whether more are wanted.
func (s *eventStream) hand(data string) bool {
	var ev wire.Event
	if err := json.Unmarshal([]byte(data), &ev); err != nil {
		s.stopped = true
		s.yield(ev, fmt.Errorf("this is no event: %s", excerpt([]byte(data))))
		return false
	}
	s.events++
	s.stopped = !s.yield(ev, nil)
	return !s.stopped
}

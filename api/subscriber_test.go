package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/org/envoy-control-plane/api/wire"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// delivery is one event as a subscriber got it: its place, where it has one,
// and its JSON.
type delivery struct {
	id  string
	raw string
}

func (d delivery) event(t *testing.T) wire.Event {
	t.Helper()
	var ev wire.Event
	if err := json.Unmarshal([]byte(d.raw), &ev); err != nil {
		t.Fatalf("%v: %s", err, d.raw)
	}
	return ev
}

// subscriber reads one stream. next returns io.EOF at a proper end, and a
// *wire.Problem at one that the node gave a reason for.
type subscriber interface {
	next() (delivery, error)
	close()
}

// eventPath is where tenant default's events are.
const eventPath = "/api/v1/tenants/default/events"

// subscribe opens a stream of server-sent events; the error is a *wire.Problem
// when it was refused.
func subscribe(ctx context.Context, url string, header ...string) (*serverSent, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		cancel()
		return nil, err
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer cancel()
		defer func() { _ = answer.Body.Close() }()
		return nil, problemIn(answer.Body)
	}
	return &serverSent{answer: answer, lines: bufio.NewReader(answer.Body), cancel: cancel}, nil
}

func problemIn(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var p wire.Problem
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("%w: %s", err, raw)
	}
	return &p
}

type serverSent struct {
	answer *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
	// id is the last one, of an event or beside a ping; pings counts those.
	id    string
	pings int
}

func (s *serverSent) next() (delivery, error) {
	var data, kind string
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return delivery{}, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			s.id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "retry":
		case "":
			if value == "ping" {
				s.pings++
			}
			switch {
			case kind == "error":
				return delivery{}, problemIn(strings.NewReader(data))
			case data != "":
				return delivery{id: s.id, raw: data}, nil
			}
		default:
			return delivery{}, fmt.Errorf("not a line of server-sent events: %q", line)
		}
	}
}

func (s *serverSent) close() {
	s.cancel()
	_ = s.answer.Body.Close()
}

// dial opens a stream over a WebSocket.
func dial(ctx context.Context, url string, o *websocket.DialOptions) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	conn, answer, err := websocket.Dial(ctx, url, o) //nolint:bodyclose // the library's
	if err != nil {
		defer cancel()
		if answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
			return nil, problemIn(answer.Body)
		}
		return nil, err
	}
	conn.SetReadLimit(-1)
	return &socket{conn: conn, ctx: ctx, cancel: cancel}, nil
}

type socket struct {
	conn   *websocket.Conn
	ctx    context.Context // of the whole stream
	cancel context.CancelFunc
	// position is the last one, positions counts them.
	position  string
	positions int
}

func (s *socket) next() (delivery, error) {
	for {
		d, err := s.message()
		var p wire.EventPosition
		if err != nil || !strings.HasPrefix(d.raw, `{"position":`) {
			return d, err
		}
		if err := json.Unmarshal([]byte(d.raw), &p); err != nil {
			return d, err
		}
		s.position = p.Position
		s.positions++
	}
}

// message reads an event or a position.
func (s *socket) message() (delivery, error) {
	_, raw, err := s.conn.Read(s.ctx)
	if end, ok := errors.AsType[websocket.CloseError](err); ok {
		if end.Code == websocket.StatusNormalClosure {
			return delivery{}, io.EOF
		}
		code, detail, _ := strings.Cut(end.Reason, ": ")
		return delivery{}, &wire.Problem{Code: wire.Code(code), Detail: detail, Status: int(end.Code) - 4000}
	}
	return delivery{raw: string(raw)}, err
}

func (s *socket) close() {
	_ = s.conn.CloseNow()
	s.cancel()
}

// events opens a stream at the rig's server.
func (r *rig) events(query string, header ...string) *serverSent {
	r.t.Helper()
	s, err := subscribe(r.t.Context(), r.url+eventPath+query, header...)
	if err != nil {
		r.t.Fatalf("subscribe %s: %v", query, err)
	}
	r.t.Cleanup(s.close)
	return s
}

func (r *rig) socket(query string, o *websocket.DialOptions) *socket {
	r.t.Helper()
	s, err := dial(r.t.Context(), r.url+"/api/v1/ws"+query, o)
	if err != nil {
		r.t.Fatalf("dial %s: %v", query, err)
	}
	r.t.Cleanup(s.close)
	return s
}

// take reads a number of events.
func take(t *testing.T, s subscriber, n int) []delivery {
	t.Helper()
	var got []delivery
	for len(got) < n {
		d, err := s.next()
		if err != nil {
			t.Fatalf("after %d of %d events: %v", len(got), n, err)
		}
		got = append(got, d)
	}
	return got
}

// rest reads to a proper end.
func rest(t *testing.T, s subscriber) []delivery {
	t.Helper()
	var got []delivery
	for {
		d, err := s.next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatalf("after %d events: %v", len(got), err)
		}
		got = append(got, d)
	}
}

// ends demands the code that the node ends a stream with.
func ends(t *testing.T, s subscriber, code wire.Code) wire.Problem {
	t.Helper()
	for {
		_, err := s.next()
		if err == nil {
			continue // was on its way
		}
		return refusedWith(t, err, code)
	}
}

// refusedWith demands the code of an error.
func refusedWith(t *testing.T, err error, code wire.Code) wire.Problem {
	t.Helper()
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok || p.Code != code || p.Status != code.Status() {
		t.Fatalf("%v, want %s", err, code)
	}
	return *p
}

// numbers are the tenant_seq of events.
func numbers(t *testing.T, got []delivery) []uint64 {
	t.Helper()
	out := []uint64{}
	for _, d := range got {
		out = append(out, d.event(t).TenantSeq)
	}
	return out
}

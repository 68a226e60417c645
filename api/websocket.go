package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/org/envoy-control-plane/api/wire"
)

// closeBase and the status of a problem make the code that a WebSocket is
// closed with; its reason begins with the problem's code.
const closeBase = 4000

// maxReasonBytes is what fits into a close frame.
const maxReasonBytes = 123

// socket answers with a WebSocket that has one event in each message.
func (st *stream) socket(w http.ResponseWriter) int {
	st.s.sockets.Add(1)
	defer st.s.sockets.Done()
	// The origin was checked, see checkUpgrade.
	conn, err := websocket.Accept(w, st.c.r, &websocket.AcceptOptions{
		Subprotocols: []string{wire.EventProtocol}, InsecureSkipVerify: true,
	})
	if err != nil { // and has been answered
		st.reader.Close()
		return http.StatusBadRequest
	}
	// The request's context goes on after the handshake, and its time limit must not.
	listening, stop := context.WithCancelCause(context.WithoutCancel(st.c.ctx))
	defer stop(nil)
	st.c.ctx = conn.CloseRead(listening)
	out := &socket{st: st, conn: conn, stop: stop}
	if out.position(st.reader.At()) == nil {
		st.run(out)
	} else {
		st.reader.Close()
	}
	stop(nil)
	_ = conn.CloseNow() // after a proper end it is closed
	out.pings.Wait()
	return http.StatusSwitchingProtocols
}

// socket writes events to a WebSocket.
type socket struct {
	st    *stream
	conn  *websocket.Conn
	stop  context.CancelCauseFunc
	pings sync.WaitGroup
}

func (o *socket) event(_ uint64, json []byte) error { return o.write(json) }

// position says where a client shall go on from: at the beginning, and where a
// filter has passed over events.
func (o *socket) position(number uint64) error {
	raw, err := json.Marshal(wire.EventPosition{Position: o.st.place(number)})
	if err != nil {
		return fmt.Errorf("encode a position: %w", err)
	}
	return o.write(raw)
}

func (o *socket) write(message []byte) error {
	ctx, cancel := context.WithTimeout(o.st.c.ctx, o.st.s.cfg.EventWrite)
	defer cancel()
	err := o.conn.Write(ctx, websocket.MessageText, message)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return errSlow
	}
	return lost(err)
}

func (o *socket) flush() error { return nil }

// ping tells the client its position and asks it for a sign of life; the stream
// ends when none comes.
func (o *socket) ping(number uint64) error {
	if err := o.position(number); err != nil {
		return err
	}
	o.pings.Go(func() {
		ctx, cancel := context.WithTimeout(o.st.c.ctx, o.st.s.cfg.EventWrite)
		defer cancel()
		if err := o.conn.Ping(ctx); err != nil {
			o.stop(errSlow)
		}
	})
	return nil
}

func (o *socket) end(p *wire.Problem) {
	code, reason := websocket.StatusNormalClosure, ""
	if p != nil {
		code, reason = websocket.StatusCode(closeBase+p.Status), string(p.Code)+": "+p.Detail
	}
	if len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "")
	}
	_ = o.conn.Close(code, reason) // nobody is left to tell
}

// sameOrigin reports whether a page's origin is the host that was asked.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

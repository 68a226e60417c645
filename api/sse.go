package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// serverSent answers with a stream of server-sent events.
func (s *Server) serverSent(c *call, tenant string) (*answer, error) {
	st, err := s.subscribe(c, tenant)
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Content-Type", wire.MediaEvents)
	if c.r.Method == http.MethodHead {
		st.reader.Close()
		return &answer{}, nil
	}
	return &answer{stream: func(io.Writer) error {
		c.unbound()
		out := &serverSent{st: st, w: c.w, control: http.NewResponseController(c.w)}
		if err := out.begin(); err != nil {
			st.reader.Close()
			return err
		}
		st.run(out)
		return nil
	}}, nil
}

// serverSent writes server-sent events. Their ids are places.
type serverSent struct {
	st      *stream
	w       io.Writer
	control *http.ResponseController
}

// begin says where the stream begins, so that a client that has seen no event
// yet can go on from there.
func (o *serverSent) begin() error {
	return o.send(true, "retry: 1000\nid: ", o.st.place(o.st.reader.At()), "\n\n")
}

func (o *serverSent) event(number uint64, json []byte) error {
	if err := o.send(false, "id: ", o.st.place(number), "\ndata: "); err != nil {
		return err
	}
	if _, err := o.w.Write(json); err != nil {
		return lost(err)
	}
	return o.send(false, "\n\n")
}

func (o *serverSent) flush() error { return lost(o.control.Flush()) }

// ping is a comment, with the id that a client shall go on from: a filter may
// have passed over many events.
func (o *serverSent) ping(number uint64) error {
	return o.send(true, ": ping\nid: ", o.st.place(number), "\n\n")
}

func (o *serverSent) end(p *wire.Problem) {
	if p == nil {
		return
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return // a problem always encodes
	}
	_ = o.send(true, "event: error\ndata: ", string(raw), "\n\n") // nobody is left to tell
}

// send writes parts, in the time that a client has for it.
func (o *serverSent) send(flush bool, parts ...string) error {
	_ = o.control.SetWriteDeadline(time.Now().Add(o.st.s.cfg.EventWrite)) // without deadlines there is no slow reader
	for _, part := range parts {
		if _, err := io.WriteString(o.w, part); err != nil {
			return lost(err)
		}
	}
	if flush {
		return o.flush()
	}
	return nil
}

// lost says what the failure of a write means.
func lost(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return errors.Join(errLost, err)
}

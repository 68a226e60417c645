package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// maxRequestIDLen bounds an X-Request-Id that is taken over.
const maxRequestIDLen = 128

// writeSlack is how long a slow client may take to read an answer beyond the
// request limit.
const writeSlack = 30 * time.Second

// serve answers one request: find the route, know the caller, check the
// query, handle, write.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{w: w, r: r, id: requestID(r), deadline: start.Add(s.cfg.RequestLimit)}
	w.Header().Set(wire.HeaderRequestID, c.id)
	c.ctx = r.Context()
	c.bound(s.cfg.RequestLimit)
	defer c.release()
	if r.ContentLength != 0 {
		// Also for a body that nobody reads: net/http looks for its end.
		_ = http.NewResponseController(w).SetReadDeadline(c.deadline) // without deadlines there is no slow sender
	}

	a, err := s.handle(c)
	status := s.write(c, a, err)
	took := time.Since(start)
	s.metrics.observe(c, status, took)
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
		slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()),
		slog.Int("status", status), slog.Duration("took", took),
		slog.String("by", c.subject.Name), slog.String("request_id", c.id))
}

// bound gives the call a time limit from now, in place of an earlier one.
func (c *call) bound(limit time.Duration) {
	ctx, cancel := context.WithTimeout(c.r.Context(), limit)
	c.release()
	c.ctx, c.cancel = ctx, cancel
	// A writer without deadlines has no slow reader either.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(limit + writeSlack))
}

// unbound lifts the call's time limit: a stream bounds each of its writes.
func (c *call) unbound() {
	ctx, cancel := context.WithCancel(c.r.Context())
	c.release()
	c.ctx, c.cancel = ctx, cancel
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{}) // as in bound
}

func (c *call) release() {
	if c.cancel != nil {
		c.cancel()
	}
}

// handle runs a call up to its answer. A panic becomes an error.
func (s *Server) handle(c *call) (a *answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	c.route, c.params = s.router.find(c.r.Method, c.r.URL.EscapedPath())
	if c.route == nil {
		return s.router.unrouted(c)
	}
	if c.subject, err = s.admit(c); err != nil {
		return nil, err
	}
	if err := c.parseQuery(); err != nil {
		return nil, err
	}
	c.waits = c.route.Kind == KindLong || c.route.Kind == KindStream || c.route.Kind == KindWait && c.query.Has("wait")
	if err := c.checkNames(); err != nil {
		return nil, err
	}
	return c.route.handle(s, c)
}

// write sends an answer, or the problem that stands for an error, and returns
// the status.
func (s *Server) write(c *call, a *answer, err error) int {
	if err != nil {
		a = s.problem(c, err)
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	body := a.raw
	if a.body != nil {
		encoded, err := json.Marshal(a.body)
		if err != nil {
			a = s.problem(c, fmt.Errorf("encode the answer: %w", err))
			encoded, _ = json.Marshal(a.body) // a problem always encodes
		}
		body = append(encoded, '\n')
	}
	header := c.w.Header()
	s.stamp(c)
	if c.replayed {
		header.Set(wire.HeaderReplayed, "true")
	}
	if a.takeOver != nil {
		return a.takeOver(c.w)
	}
	if body != nil || a.stream != nil {
		if header.Get("Content-Type") == "" {
			header.Set("Content-Type", wire.MediaJSON)
		}
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
	}
	c.w.WriteHeader(a.status)
	if c.r.Method == http.MethodHead {
		return a.status
	}
	if a.stream == nil {
		a.stream = func(w io.Writer) error {
			_, err := w.Write(body)
			return err
		}
	}
	if err := a.stream(c.w); err != nil {
		s.log.Debug("client went away", "request_id", c.id, "error", err)
	}
	return a.status
}

// stamp says which state the answer reflects. The epoch of an index that this
// node has yet to come to is not known here.
func (s *Server) stamp(c *call) {
	st := s.deps.Cluster.State()
	if c.index == 0 {
		c.reflect(st)
	}
	if c.epoch == "" && st.Index() >= c.index {
		c.epoch = st.Identity().GetEpoch()
	}
	header := c.w.Header()
	header.Set(wire.HeaderIndex, strconv.FormatUint(c.index, 10))
	if c.epoch != "" {
		header.Set(wire.HeaderEpoch, c.epoch)
	}
}

// problem turns an error into the answer for it, and logs what is the node's
// own fault.
func (s *Server) problem(c *call, err error) *answer {
	p := s.problemFor(c, err)
	header := c.w.Header()
	header.Set("Content-Type", wire.MediaProblem)
	if after := retryAfter(p.Code); after != "" {
		header.Set("Retry-After", after)
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="envoy-control-plane"`)
	}
	return &answer{status: p.Status, body: p}
}

// problemFor returns the problem that a call's error is told as.
func (s *Server) problemFor(c *call, err error) *wire.Problem {
	p := *problemOf(err)
	p.RequestID = c.id
	if p.Code == wire.CodeInternal {
		s.log.Error("request failed", "method", c.r.Method, "path", c.r.URL.EscapedPath(),
			"request_id", c.id, "error", err)
	}
	return &p
}

// requestID takes over the client's request id, or makes one up.
func requestID(r *http.Request) string {
	id := r.Header.Get(wire.HeaderRequestID)
	if id != "" && len(id) <= maxRequestIDLen && printableASCII(id) {
		return id
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

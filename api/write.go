package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	maxKeyBytes = 255
	// ownWriteWait bounds the wait for a write to show up in this node's own
	// state, so that its next local read has it.
	ownWriteWait = time.Second
)

// propose has a command of the caller's decided, once per Idempotency-Key. A
// refusal is an error. raw is the body as JSON.
func (s *Server) propose(c *call, raw []byte, command *fsmpb.Command) (*fsmpb.Result, error) {
	command.By = c.subject.Name
	key, err := c.idempotency(raw)
	if err != nil {
		return nil, err
	}
	command.Idempotency = key
	if err := s.needLevel(c, command); err != nil {
		return nil, err
	}
	result, err := s.deps.Cluster.Propose(c.ctx, command)
	if err != nil {
		return nil, s.unheard(c, err)
	}
	c.index, c.replayed = result.GetIndex(), result.GetReplayed()
	s.settle(c.ctx, result.GetIndex())
	return result, fsm.ResultError(result)
}

// unheard says what is known of a write whose result was not heard.
func (s *Server) unheard(c *call, err error) error {
	if fsm.CodeOf(err) != "" {
		return err
	}
	if !errors.Is(err, context.Canceled) {
		s.log.Warn("write without a result", "request_id", c.id, "error", err)
	}
	return refuse(wire.CodeOutcomeUnknown,
		"the write may or may not be applied; retry it with the same %s", wire.HeaderIdempotencyKey)
}

// settle waits until this node has what it has just acknowledged.
func (s *Server) settle(ctx context.Context, index uint64) {
	if s.deps.Cluster.State().Index() >= index {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownWriteWait)
	defer cancel()
	// The write is done; a node that lags only makes a later read older.
	_, _ = s.deps.Cluster.WaitApplied(ctx, index)
}

// idempotency reads the request's key, nil without one.
func (c *call) idempotency(raw []byte) (*fsmpb.IdempotencyKey, error) {
	keys := c.r.Header.Values(wire.HeaderIdempotencyKey)
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > maxKeyBytes || !printableASCII(keys[0]) {
		p := refuse(wire.CodeInvalidIdempotencyKey, "one key of 1 to %d printable ASCII characters is allowed", maxKeyBytes)
		p.Errors = []wire.FieldError{{Path: "header." + wire.HeaderIdempotencyKey, Detail: p.Detail}}
		return nil, p
	}
	hash, err := c.hash(raw)
	if err != nil {
		return nil, err
	}
	return &fsmpb.IdempotencyKey{Key: keys[0], RequestHash: hash}, nil
}

// hash tells requests apart by what they ask for, not by how they spell it.
func (c *call) hash(raw []byte) ([]byte, error) {
	body, err := canonical(raw)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s\n", c.route.Method, c.route.Pattern)
	for _, name := range slices.Sorted(maps.Keys(c.params)) {
		_, _ = fmt.Fprintf(h, "%q=%q\n", name, c.params[name])
	}
	_, _ = io.WriteString(h, c.query.Encode()+"\n")
	h.Write(body)
	return h.Sum(nil), nil
}

// statusOf is the status of a write that was applied.
func statusOf(r *fsmpb.Result) int {
	if r.GetCreated() {
		return http.StatusCreated
	}
	return http.StatusOK
}

// tryOut applies a command to a state that holds every acknowledged write and
// throws the outcome away. Also while the cluster is read-only: nothing is
// written.
func (s *Server) tryOut(c *call, command *fsmpb.Command) (before, after *fsm.State, r *fsmpb.Result, err error) {
	command.By = c.subject.Name
	before, err = s.confirmed(c.ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	c.reflect(before)
	entry := &fsmpb.Entry{Stamp: before.Stamp(), Commands: []*fsmpb.Command{command}}
	after, results, _ := before.WithoutReadOnly().Apply(before.Index()+1, entry)
	return before, after, results[0], fsm.ResultError(results[0])
}

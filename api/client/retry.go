package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Second
	// maxDeafRounds is how often all servers are tried while none can even be
	// connected to: waiting longer for a wrong address helps nobody.
	maxDeafRounds = 3
)

// verdict is what an attempt's error means for the call.
type verdict struct {
	// final: no further attempt would end otherwise.
	final bool
	// unknown: the attempt may have been applied.
	unknown bool
	// decided: a node has refused the call, all attempts under its key
	// included.
	decided bool
	// deaf: nothing was heard of the server, nothing sent to it.
	deaf bool
	// after is how long to wait before the same server is asked again.
	after time.Duration
}

// do makes attempts until one decides the call. It goes through all servers
// without a pause, and pauses between the rounds.
func (s *session) do(ctx context.Context, r *request, out any) error {
	giveUp := time.Now().Add(s.retryFor + r.wait)
	unknown := false
	for round := 0; ; round++ {
		pause, deaf := pauseAfter(round), true
		var last error
		for range s.servers {
			place := s.current.Load()
			err := s.try(ctx, s.servers[place], r, out)
			if err == nil {
				return nil
			}
			v := judge(ctx, r, err, round)
			unknown = (unknown || v.unknown) && !v.decided
			last, deaf, pause = err, deaf && v.deaf, max(pause, v.after)
			if v.final {
				return ended(err, unknown)
			}
			s.current.CompareAndSwap(place, (place+1)%int64(len(s.servers)))
		}
		if deaf && !unknown && round+1 >= maxDeafRounds || time.Now().Add(pause).After(giveUp) {
			return ended(last, unknown)
		}
		if !sleep(ctx, pause) {
			return ended(fmt.Errorf("%w; before: %w", context.Cause(ctx), last), unknown)
		}
	}
}

func ended(err error, unknown bool) error {
	if unknown {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// judge says what to make of an attempt's error.
func judge(ctx context.Context, r *request, err error, round int) verdict {
	writes := r.key != ""
	if ctx.Err() != nil {
		// Ended by the caller, in the middle of something or not.
		return verdict{final: true, unknown: writes && !isDial(err)}
	}
	if r.once {
		return verdict{final: true}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return judgeAnswer(writes, e, round)
	}
	switch {
	case isDial(err):
		return verdict{deaf: true}
	case isTLS(err):
		return verdict{final: true}
	default:
		return verdict{unknown: writes}
	}
}

func judgeAnswer(writes bool, e *Error, round int) verdict {
	switch {
	case e.Code == wire.CodeReadOnly:
		// For as long as an operator likes; an attempt before it may have passed.
		return verdict{final: true}
	case mayComeBack(e):
		return verdict{after: max(e.retryAfter, 0)}
	case e.Status == http.StatusInternalServerError:
		// Every server, and a lonely one twice: a defect stays.
		return verdict{unknown: writes, final: round > 0}
	case e.Status > http.StatusInternalServerError && e.Status != http.StatusNotImplemented:
		return verdict{unknown: writes}
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden, e.Code == "":
		// Refused before anybody looked at the key.
		return verdict{final: true}
	default:
		return verdict{final: true, decided: true}
	}
}

// mayComeBack reports whether an answer means: not applied, ask again.
func mayComeBack(e *Error) bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return e.retryAfter >= 0
	default:
		return false
	}
}

// isDial reports whether an attempt failed before anything was sent.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

// isTLS reports whether a server is not who it should be, or no TLS server.
func isTLS(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return verify || record
}

// limited bounds an attempt. An endless one is bounded until opened is called.
func (s *session) limited(ctx context.Context, r *request) (limited context.Context, opened, cancel func()) {
	limit := cmp.Or(r.long, s.attempt+r.wait)
	if !r.endless {
		limited, cancel = context.WithTimeout(ctx, limit)
		return limited, func() {}, cancel
	}
	limited, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { end(context.DeadlineExceeded) })
	return limited, func() { timer.Stop() }, func() { timer.Stop(); end(nil) }
}

// taker reads a body that is no JSON by itself.
type taker interface {
	take(server string, answer *http.Response) error
}

// try makes one attempt and reads its answer into out.
func (s *session) try(ctx context.Context, server string, r *request, out any) error {
	ctx, opened, cancel := s.limited(ctx, r)
	defer cancel()
	req, err := s.build(ctx, server, r)
	if err != nil {
		return err
	}
	answer, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if t, ok := out.(taker); ok && answer.StatusCode == http.StatusOK {
		s.saw(answer.Header)
		opened()
		return t.take(server, answer)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes+1))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", server, err)
	}
	s.saw(answer.Header)
	if answer.StatusCode/100 != 2 && (!r.once || strings.HasPrefix(answer.Header.Get("Content-Type"), wire.MediaProblem)) {
		e := answerError(server, answer, body)
		if e.Code == wire.CodeEpochChanged {
			s.forget()
		}
		return e
	}
	return decode(server, answer, body, out)
}

// decode reads a body into out; a *[]byte gets it as it is.
func decode(server string, answer *http.Response, body []byte, out any) error {
	if len(body) > maxAnswerBytes {
		return &Error{Status: answer.StatusCode, Server: server, Detail: "the answer is too large"}
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = body
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		e := answerError(server, answer, body)
		e.Detail = "this is not an answer of the API: " + excerpt(body)
		return e
	}
	return nil
}

func pauseAfter(round int) time.Duration {
	pause := min(firstPause<<min(round, 8), maxPause)
	return pause/2 + rand.N(pause/2+1)
}

// sleep reports whether the time passed before the context was done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

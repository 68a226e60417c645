package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
)

const (
	// attemptTime is how long a client waits for one answer, attempts how
	// often it asks for the same thing.
	attemptTime = 3 * time.Second
	attempts    = 5
)

// client calls random nodes, one operation at a time. Unlike api/client it
// shows what each attempt brought, and repeats what needs no repetition.
type client struct {
	id      int
	urls    func() []string // of all nodes, now
	history *history.Recorder
	http    *http.Client
	rand    *rand.Rand
	// index is the newest that this client saw acknowledged, revisions the
	// newest of each fleet.
	index     uint64
	revisions map[string]uint64
	// broken is told of an answer that breaks the contract by itself.
	broken func(format string, args ...any)
}

func newClient(id int, seed uint64, urls func() []string, h *history.Recorder, broken func(string, ...any)) *client {
	return &client{
		id: id, urls: urls, history: h, rand: rand.New(rand.NewPCG(seed, uint64(id))), broken: broken, revisions: map[string]uint64{},
		http: &http.Client{Timeout: attemptTime, Transport: &http.Transport{DisableCompression: true, IdleConnTimeout: 5 * time.Second}},
	}
}

// answer of one node.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// into decodes a body of 2xx.
func (a *answer) into(v any) error { return json.Unmarshal(a.body, v) }

func (a *answer) index() uint64 {
	n, _ := strconv.ParseUint(a.header.Get(wire.HeaderIndex), 10, 64)
	return n
}

func (a *answer) code() wire.Code {
	var p wire.Problem
	_ = json.Unmarshal(a.body, &p) // no code then
	return p.Code
}

// send makes one attempt. A body has no GetBody: net/http repeats nothing.
func (c *client) send(ctx context.Context, method, target, key string, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return nil, err
	}
	if method == http.MethodGet {
		req.Body = http.NoBody
	} else {
		req.ContentLength = int64(len(body))
		req.Header.Set("Content-Type", wire.MediaJSON)
		req.Header.Set(wire.HeaderIdempotencyKey, key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, got}, err
}

// write asks for one write until a node decides it, always under one key.
func (c *client) write(ctx context.Context, o *history.Operation, method, path string, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	key := fmt.Sprintf("fault-suite-%d-%d", c.id, o.ID)
	open := false
	for range attempts {
		target := c.anyNode() + path
		a, err := c.send(ctx, method, target, key, encoded)
		note(o, target, a, err)
		switch verdict := judge(a, err); verdict {
		case history.Applied:
			c.took(o, a)
			c.history.End(o, history.Applied)
			if c.rand.IntN(5) == 0 {
				c.again(ctx, o, method, path, key, encoded, a)
			}
			return
		case history.Refused:
			c.history.End(o, history.Refused)
			return
		case history.Unknown:
			open = true
		case history.Nothing:
		default:
			c.broken("operation %d: %s", o.ID, verdict)
			open = true
		}
		if !c.pause(ctx, 300*time.Millisecond) {
			break
		}
	}
	if open {
		c.history.End(o, history.Unknown)
	} else {
		c.history.End(o, history.Nothing)
	}
}

// judge says what an attempt at a write means, by the contract.
func judge(a *answer, err error) string {
	var dial *net.OpError
	switch {
	case err != nil && errors.As(err, &dial) && dial.Op == "dial":
		return history.Nothing
	case err != nil:
		return history.Unknown
	case a.status/100 == 2:
		return history.Applied
	case a.code() == wire.CodeRevisionConflict:
		return history.Refused
	case a.status == http.StatusTooManyRequests, a.status == http.StatusServiceUnavailable, a.status == http.StatusInsufficientStorage:
		return history.Nothing
	case a.status >= http.StatusInternalServerError:
		return history.Unknown
	default:
		return fmt.Sprintf("%d is no answer to a good request: %s", a.status, a.body)
	}
}

func (c *client) took(o *history.Operation, a *answer) {
	var written struct{ Index, Revision uint64 }
	if err := a.into(&written); err != nil || written.Index == 0 {
		c.broken("operation %d: %s: %v", o.ID, a.body, err)
	}
	o.Index, o.Revision = written.Index, written.Revision
	c.index = max(c.index, o.Index)
	c.revisions[o.Key] = max(c.revisions[o.Key], o.Revision)
}

// again repeats a write that was acknowledged: the answer must be the first one.
func (c *client) again(ctx context.Context, o *history.Operation, method, path, key string, body []byte, first *answer) {
	a, err := c.send(ctx, method, c.anyNode()+path, key, body)
	if err != nil || judge(a, nil) == history.Nothing || judge(a, nil) == history.Unknown {
		return
	}
	if a.status != first.status || !bytes.Equal(a.body, first.body) || a.header.Get(wire.HeaderReplayed) != "true" {
		c.broken("operation %d was answered %d %s, and again %d %s (replayed: %q)",
			o.ID, first.status, first.body, a.status, a.body, a.header.Get(wire.HeaderReplayed))
	}
}

// read asks for the state of one node. What is at 404 is not there yet.
func (c *client) read(ctx context.Context, o *history.Operation, path string, into any) bool {
	for range 2 {
		target := c.anyNode() + path
		a, err := c.send(ctx, http.MethodGet, target, "", nil)
		note(o, target, a, err)
		switch {
		case err == nil && a.status == http.StatusOK:
			if err := a.into(into); err != nil {
				c.broken("operation %d: %s: %v", o.ID, a.body, err)
			}
			o.Index = a.index()
			return true
		case err == nil && a.status == http.StatusNotFound:
			o.Index = a.index()
			return true
		}
		if !c.pause(ctx, 300*time.Millisecond) {
			break
		}
	}
	return false
}

func (c *client) anyNode() string {
	urls := c.urls()
	return urls[c.rand.IntN(len(urls))]
}

// pause waits up to d; false when ctx ends first.
func (c *client) pause(ctx context.Context, d time.Duration) bool {
	return sleep(ctx, time.Duration(c.rand.Int64N(int64(d))))
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// note keeps what an attempt brought.
func note(o *history.Operation, target string, a *answer, err error) {
	host := target
	if u, e := url.Parse(target); e == nil {
		host = u.Hostname()
	}
	switch {
	case err != nil:
		o.Attempts = append(o.Attempts, host+": "+err.Error())
	case a.status/100 == 2:
		o.Attempts = append(o.Attempts, host+": "+strconv.Itoa(a.status))
	default:
		o.Attempts = append(o.Attempts, fmt.Sprintf("%s: %d %s", host, a.status, a.code()))
	}
}

// An operation's id is in what it writes: in a revision's message, and in the
// address of an endpoint.
func messageOf(id int) string { return "op " + strconv.Itoa(id) }

func addressOf(id int) string {
	return fmt.Sprintf("10.%d.%d.%d", id>>16&0xff, id>>8&0xff, id&0xff)
}

var addressPattern = regexp.MustCompile(`"10\.(\d+)\.(\d+)\.(\d+)"`)

// writerOf returns the id in a message or in an assignment's JSON, 0 for none.
func writerOf(text string) int {
	if rest, ok := strings.CutPrefix(text, "op "); ok {
		id, _ := strconv.Atoi(rest)
		return id
	}
	id := 0
	if m := addressPattern.FindStringSubmatch(text); m != nil {
		for _, part := range m[1:] {
			n, _ := strconv.Atoi(part)
			id = id<<8 | n
		}
	}
	return id
}

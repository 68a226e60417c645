package load

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
)

// Options say how a Client behaves.
type Options struct {
	// ID tells clients of one history apart.
	ID   int
	Seed uint64
	// URLs returns those of the nodes that may be asked now.
	URLs    func() []string
	History *history.Recorder
	// Broken is told of an answer that breaks the contract by itself.
	Broken func(format string, args ...any)
	// Token is sent as a bearer token when it is not empty.
	Token string
	// AttemptTime is how long it waits for one answer, Attempts how often it
	// asks for the same thing. 0 means 3 s and 5.
	AttemptTime time.Duration
	Attempts    int
	// Obeys lets it wait as long as Retry-After says before it asks again.
	Obeys bool
}

// Client calls random nodes, one operation at a time. Unlike api/client it
// shows what each attempt brought, and repeats what needs no repetition.
type Client struct {
	Options
	http *http.Client
	rand *rand.Rand
	// index is the newest that this client saw acknowledged, revisions the
	// newest of each fleet.
	index     uint64
	revisions map[string]uint64
}

// New makes a Client; it asks nothing yet.
func New(o Options) *Client {
	o.AttemptTime, o.Attempts = cmp.Or(o.AttemptTime, 3*time.Second), cmp.Or(o.Attempts, 5)
	return &Client{
		Options: o, rand: rand.New(rand.NewPCG(o.Seed, uint64(o.ID))), revisions: map[string]uint64{},
		http: &http.Client{Timeout: o.AttemptTime, Transport: &http.Transport{DisableCompression: true, IdleConnTimeout: 5 * time.Second}},
	}
}

// As returns a client like this one that asks one node alone and writes to a
// history under an id of its own.
func (c *Client) As(id int, url string, h *history.Recorder) *Client {
	o := c.Options
	o.ID, o.URLs, o.History = id, func() []string { return []string{url} }, h
	return New(o)
}

// Answer of one node.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Into decodes a body of 2xx.
func (a *Answer) Into(v any) error { return json.Unmarshal(a.Body, v) }

func (a *Answer) index() uint64 {
	n, _ := strconv.ParseUint(a.Header.Get(wire.HeaderIndex), 10, 64)
	return n
}

// Code of a problem, "" when the body is none.
func (a *Answer) Code() wire.Code {
	var p wire.Problem
	_ = json.Unmarshal(a.Body, &p) // no code then
	return p.Code
}

// Send makes one attempt. A body has no GetBody: net/http repeats nothing.
func (c *Client) Send(ctx context.Context, method, target, key string, body []byte) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
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
	return &Answer{resp.StatusCode, resp.Header, got}, err
}

// KeyPrefix begins every idempotency key, so that a write is found in a file.
const KeyPrefix = "load-suite-"

// write asks for one write until a node decides it, always under one key.
func (c *Client) write(ctx context.Context, o *history.Operation, method, path string, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	key := fmt.Sprintf("%s%d-%d", KeyPrefix, c.ID, o.ID)
	open := false
	last := ""
	for range c.Attempts {
		last = c.anyNode(last)
		target := last + path
		a, err := c.Send(ctx, method, target, key, encoded)
		note(o, target, a, err)
		switch verdict := judge(a, err); verdict {
		case history.Applied:
			c.took(o, a)
			c.History.End(o, history.Applied)
			if c.rand.IntN(5) == 0 {
				c.again(ctx, o, method, path, key, encoded, a)
			}
			return
		case history.Refused:
			c.History.End(o, history.Refused)
			return
		case history.Unknown:
			open = true
		case history.Nothing:
		default:
			c.Broken("operation %d: %s", o.ID, verdict)
			open = true
		}
		if !c.pauseAfter(ctx, a) {
			break
		}
	}
	if open {
		c.History.End(o, history.Unknown)
	} else {
		c.History.End(o, history.Nothing)
	}
}

// judge says what an attempt at a write means, by the contract.
func judge(a *Answer, err error) string {
	var dial *net.OpError
	switch {
	case err != nil && errors.As(err, &dial) && dial.Op == "dial":
		return history.Nothing
	case err != nil:
		return history.Unknown
	case a.Status/100 == 2:
		return history.Applied
	case a.Code() == wire.CodeRevisionConflict:
		return history.Refused
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusServiceUnavailable, a.Status == http.StatusInsufficientStorage:
		return history.Nothing
	case a.Status >= http.StatusInternalServerError:
		return history.Unknown
	default:
		return fmt.Sprintf("%d is no answer to a good request: %s", a.Status, a.Body)
	}
}

func (c *Client) took(o *history.Operation, a *Answer) {
	var written struct{ Index, Revision uint64 }
	if err := a.Into(&written); err != nil || written.Index == 0 {
		c.Broken("operation %d: %s: %v", o.ID, a.Body, err)
	}
	o.Index, o.Revision = written.Index, written.Revision
	c.index = max(c.index, o.Index)
	c.revisions[o.Key] = max(c.revisions[o.Key], o.Revision)
}

// again repeats a write that was acknowledged: the answer must be the first one.
func (c *Client) again(ctx context.Context, o *history.Operation, method, path, key string, body []byte, first *Answer) {
	a, err := c.Send(ctx, method, c.anyNode("")+path, key, body)
	if err != nil || judge(a, nil) == history.Nothing || judge(a, nil) == history.Unknown {
		return
	}
	if a.Status != first.Status || !bytes.Equal(a.Body, first.Body) || a.Header.Get(wire.HeaderReplayed) != "true" {
		c.Broken("operation %d was answered %d %s, and again %d %s (replayed: %q)",
			o.ID, first.Status, first.Body, a.Status, a.Body, a.Header.Get(wire.HeaderReplayed))
	}
}

// read asks for the state of one node. What is at 404 is not there yet.
func (c *Client) read(ctx context.Context, o *history.Operation, path string, into any) bool {
	last := ""
	for range 2 {
		last = c.anyNode(last)
		target := last + path
		a, err := c.Send(ctx, http.MethodGet, target, "", nil)
		note(o, target, a, err)
		switch {
		case err == nil && a.Status == http.StatusOK:
			if err := a.Into(into); err != nil {
				c.Broken("operation %d: %s: %v", o.ID, a.Body, err)
			}
			o.Index = a.index()
			return true
		case err == nil && a.Status == http.StatusNotFound:
			o.Index = a.index()
			return true
		}
		if !c.pauseAfter(ctx, a) {
			break
		}
	}
	return false
}

// anyNode draws one, another one than the last where there is one.
func (c *Client) anyNode(last string) string {
	urls := c.URLs()
	if len(urls) == 0 {
		return "http://0.0.0.0:1" // refused at once, as a service without pods does
	}
	if others := slices.DeleteFunc(slices.Clone(urls), func(u string) bool { return u == last }); len(others) > 0 {
		urls = others
	}
	return urls[c.rand.IntN(len(urls))]
}

// pauseAfter waits before the next attempt; a is nil when there was no answer.
func (c *Client) pauseAfter(ctx context.Context, a *Answer) bool {
	if a != nil && c.Obeys {
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After"))
		time.Sleep(time.Duration(seconds) * time.Second)
	}
	return c.pause(ctx, 300*time.Millisecond)
}

// pause waits up to d; false when ctx ends first.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(c.rand.Int64N(int64(d)))):
		return true
	}
}

// note keeps what an attempt brought.
func note(o *history.Operation, target string, a *Answer, err error) {
	host := target
	if u, e := url.Parse(target); e == nil {
		host = u.Hostname()
	}
	switch {
	case err != nil:
		o.Attempts = append(o.Attempts, host+": "+err.Error())
	case a.Status/100 == 2:
		o.Attempts = append(o.Attempts, host+": "+strconv.Itoa(a.Status))
	default:
		o.Attempts = append(o.Attempts, fmt.Sprintf("%s: %d %s", host, a.Status, a.Code()))
	}
}

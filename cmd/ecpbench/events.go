package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

// alone is the baseline of events: writes that nobody listens to.
const alone = "alone"

func (a *app) eventsCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Measure writes while thousands of clients listen to the events of one node",
		Long: `events starts clusters of three processes of ours, and has clients write endpoints, as
write does: in one turn alone, in the other while subscribers have streams of events
(server-sent events) open at the leader. So many of them as --all says are sent every
event; the others want those of a fleet that nothing happens to, so that the node
has to pass over each event for each of them.

Measured are the writes, how long after its commit an event has come to those that
are sent every one, and the leader's memory for a stream.

Figures are medians of the rounds; ratios are to alone. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench events
  ecpbench events --subscribers 1000 --all 1000 --rate 50`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 3)
	o.addLoad(cmd.Flags())
	o.addRate(cmd.Flags())
	cmd.Flags().IntVar(&o.subscribers, "subscribers", 10_000, "streams of events that are open at the leader")
	cmd.Flags().IntVar(&o.all, "all", 100, "how many of them are sent every event")
	ownOnly(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.servers = []string{trio.ECP}
		if err := o.check(); err != nil {
			return err
		}
		if o.subscribers < 1 || o.all < 1 || o.all > o.subscribers {
			return misuse("--subscribers is %d and --all is %d; the first is at least the second, and that at least 1", o.subscribers, o.all)
		}
		setup := Trio{Clients: o.clients, Size: o.size, Seconds: o.lasting.Seconds(), Offered: o.rate, Subscribers: o.subscribers, All: o.all}
		return a.clusters(cmd.Context(), "events", o, setup, measureEvents)
	}
	return cmd
}

// listened is what was measured in a turn.
type listened struct {
	worked
	memory    uint64 // of the leader, for all streams
	delivered int64
	delays    []time.Duration
}

func measureEvents(ctx context.Context, r *trioRun) error {
	r.baseline = alone
	turns := map[string]func(context.Context, *trio.Cluster) (listened, error){
		alone: func(ctx context.Context, c *trio.Cluster) (out listened, err error) {
			out.worked, err = work(ctx, c, r.trioOptions, r.put)
			return out, err
		},
		trio.ECP: r.listenedTo,
	}
	names := []string{alone, trio.ECP}
	samples, err := inTurns(r.app, r.rounds, names, func(name string) (listened, error) {
		return withCluster(ctx, r, trio.ECP, trio.Options{}, turns[name])
	}, func(s listened) string { return fmt.Sprintf("writes %s, %d events delivered", s.glance(), s.delivered) })
	if err != nil {
		return err
	}
	for _, name := range names {
		all := samples[name]
		var writes []worked
		for _, s := range all {
			writes = append(writes, s.worked)
		}
		figures := append(loadFigures("writes", writes),
			median("failed writes", "", all, func(s listened) float64 { return float64(s.failed) }))
		if name == trio.ECP {
			figures = append(figures, median("events delivered per second", "", all, func(s listened) float64 {
				return float64(s.delivered) / (s.took + warmFor).Seconds() // those before the measured part, too
			}))
			figures = append(figures, quantiles("event delivered, since its commit", "ms", time.Millisecond, all,
				func(s listened) []time.Duration { return s.delays })...)
			figures = append(figures, median("leader's memory per stream", "KiB", all, func(s listened) float64 {
				return float64(s.memory) / 1024 / float64(r.subscribers)
			}))
		}
		r.result.Servers = append(r.result.Servers, outcome{Server: name, Figures: figures})
	}
	return nil
}

// listenedTo is a turn with subscribers.
func (r *trioRun) listenedTo(ctx context.Context, c *trio.Cluster) (out listened, err error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return out, err
	}
	before, err := readMemory(c.PID(leader))
	if err != nil {
		return out, err
	}
	a := &audience{address: c.Address(leader)}
	defer a.close()
	if err := a.open(ctx, r.subscribers, r.all); err != nil {
		return out, err
	}
	after, err := readMemory(c.PID(leader))
	if err != nil {
		return out, err
	}
	out.memory = after.resident - min(before.resident, after.resident)
	if out.worked, err = work(ctx, c, r.trioOptions, r.put); err != nil {
		return out, err
	}
	a.close()
	out.delivered, out.delays = a.delivered.Load(), a.delays
	return out, a.failure()
}

// audience is the subscribers of one node.
type audience struct {
	address   string
	conns     []net.Conn
	listening sync.WaitGroup
	opened    atomic.Int64
	delivered atomic.Int64
	lost      atomic.Pointer[error] // why a stream has ended
	delays    []time.Duration       // of the first one's events
}

// open opens the streams and returns when all of them have begun.
func (a *audience) open(ctx context.Context, n, all int) error {
	for i := range n {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", a.address)
		if err != nil {
			return fmt.Errorf("open stream %d of %d: %w", i+1, n, err)
		}
		a.conns = append(a.conns, c)
		query := ""
		if i >= all {
			query = "?fleet=nothing-happens"
		}
		a.listening.Go(func() {
			if err := a.listen(c, query, i == 0); err != nil && !errors.Is(err, net.ErrClosed) {
				a.lost.Store(&err)
			}
		})
	}
	for a.opened.Load() < int64(n) {
		if err := errors.Join(a.failure(), pause(ctx, look)); err != nil {
			return err
		}
	}
	return nil
}

// listen reads a stream until it ends.
func (a *audience) listen(c net.Conn, query string, timed bool) error {
	if _, err := fmt.Fprintf(c, "GET /api/v1/tenants/default/events%s HTTP/1.1\r\nHost: %s\r\n\r\n", query, a.address); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 4<<10)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	a.opened.Add(1)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		text, is := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !is {
			continue
		}
		a.delivered.Add(1)
		if timed {
			var ev wire.Event
			if err := json.Unmarshal(text, &ev); err != nil {
				return err
			}
			a.delays = append(a.delays, time.Since(ev.At))
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the node has ended a stream")
}

func (a *audience) failure() error {
	if err := a.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// close ends all streams; what they have measured is complete then.
func (a *audience) close() {
	for _, c := range a.conns {
		_ = c.Close()
	}
	a.listening.Wait()
}

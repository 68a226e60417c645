package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// Times that a server process is given.
const (
	endWithin = 10 * time.Second
	acksEvery = 5 * time.Millisecond
)

// child is a process of this program: a server, or the crowd of a storm.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
	first   answer
}

// startServer starts this program as a server.
func startServer(ctx context.Context, name string, o *options, stderr io.Writer) (*child, error) {
	return startChild(ctx, stderr, "server", name, "--protocol", string(o.protocol),
		"--clusters", strconv.Itoa(o.clusters), "--endpoints", strconv.Itoa(o.endpoints),
		"--fleets", strconv.Itoa(o.fleets),
		"--profiled="+strconv.FormatBool(o.profiled), "--resumed="+strconv.FormatBool(o.resumed))
}

// startChild starts this program once more and waits for its first answer. It
// dies with the context, and when its standard input ends, as it does when
// this process dies.
func startChild(ctx context.Context, stderr io.Writer, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	//nolint:gosec // it starts itself
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	c := &child{cmd: cmd, in: in, orders: json.NewEncoder(in), answers: json.NewDecoder(out)}
	a, err := c.answer()
	if err != nil {
		c.stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause // which ended the process
		}
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	c.first = a
	return c, nil
}

// stop ends the process, if need be by force.
func (c *child) stop() {
	_ = c.in.Close() // it leaves at the end of its input
	late := time.AfterFunc(endWithin, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait() // all that it had to say it has said
}

func (c *child) answer() (answer, error) {
	var a answer
	if err := c.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("the process ended: %w", err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("the process says: %s", a.Error)
	}
	return a, nil
}

// order has an order carried out.
func (c *child) order(o order) (answer, error) {
	if err := c.orders.Encode(o); err != nil {
		return answer{}, fmt.Errorf("the process ended: %w", err)
	}
	return c.answer()
}

// settle makes the process idle and small, and returns its resident bytes.
func (c *child) settle(ctx context.Context, rest time.Duration) (uint64, error) {
	for range 2 {
		if _, err := c.order(order{Do: "settle"}); err != nil {
			return 0, err
		}
		if err := pause(ctx, rest); err != nil {
			return 0, err
		}
	}
	m, err := readMemory(c.cmd.Process.Pid)
	return m.resident, err
}

// awaitAcks waits until the server has read all acknowledgements that were
// sent since it started.
func (c *child) awaitAcks(ctx context.Context, sent func() uint64) error {
	for {
		a, err := c.order(order{Do: "acks"})
		if err != nil {
			return err
		}
		n := sent()
		if a.Acks == n {
			return nil
		}
		if a.Acks > n {
			return fmt.Errorf("the server counts %d acknowledgements, %d were sent", a.Acks, n)
		}
		if err := pause(ctx, acksEvery); err != nil {
			return fmt.Errorf("the server counts %d acknowledgements of %d: %w", a.Acks, n, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

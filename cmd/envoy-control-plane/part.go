package main

import (
	"context"
	"fmt"
	"log/slog"
)

// part is something that runs until it is told to stop. Parts have contexts of
// their own, so that they can stop one after the other.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

// group starts parts and learns of the first that ends by itself.
type group struct {
	log    *slog.Logger
	failed chan error
}

func newGroup(log *slog.Logger) *group {
	return &group{log: log, failed: make(chan error, 1)}
}

// start runs f, whose context ends with stop only.
func (g *group) start(name string, f func(ctx context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = f(ctx)
		if ctx.Err() != nil {
			return // it was told to
		}
		err := fmt.Errorf("%s has ended", name)
		if p.err != nil {
			err = fmt.Errorf("%s: %w", name, p.err)
		}
		select {
		case g.failed <- err:
		default: // another was first
		}
	}()
	return p
}

// stop tells a part to end and waits for it, at most until ctx ends.
func (g *group) stop(ctx context.Context, p *part) {
	if p == nil {
		return
	}
	p.cancel()
	select {
	case <-p.done:
		if p.err != nil {
			g.log.Warn("a part did not end well", "part", p.name, "error", p.err)
		}
	case <-ctx.Done():
		g.log.Warn("a part did not end in time", "part", p.name)
	}
}

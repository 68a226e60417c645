package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/local"
)

// TestEventsOutOfTheArchive: a stream at any node that begins with the first event
// ever, which only Postgres has, goes on into memory and to what is being
// committed, without a hole or a double.
func TestEventsOutOfTheArchive(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, local.TestDatabase(t), "--archive-replay-window", "1ms")
	to, err := client.New(client.Options{Servers: c.urls})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	w := &writer{c: c}
	const events, forgotten = 2500, 2000
	for i := range events {
		if err := w.write(i % 3); err != nil {
			t.Fatal(err)
		}
	}
	var is *wire.Archive
	eventually(t, 30*time.Second, "memory forgets", func() error {
		if err := w.write(0); err != nil {
			return err
		}
		if is, err = to.Archive(t.Context()); err == nil && is.Outbox.FirstSeq < forgotten {
			err = fmt.Errorf("memory begins at %d", is.Outbox.FirstSeq)
		}
		return err
	})
	writing, stop := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; writing.Err() == nil; i++ {
			_ = w.write(i % 3)
		}
	}()
	defer func() { stop(); <-written }()
	for i, url := range c.urls {
		node, err := client.New(client.Options{Servers: []string{url}})
		if err != nil {
			t.Fatal(err)
		}
		reading, cancel := context.WithTimeout(t.Context(), time.Minute)
		next := uint64(1)
		for ev, err := range node.Events(reading, client.EventQuery{Since: "0"}) {
			if err != nil {
				t.Fatalf("node %d, before event %d: %v", i, next, err)
			}
			if ev.TenantSeq != next {
				t.Fatalf("node %d: event %d came, not %d", i, ev.TenantSeq, next)
			}
			if next++; ev.Seq > is.LastSeq+200 {
				break // far into what was committed meanwhile
			}
		}
		cancel()
		node.Close()
		t.Logf("node %d: %d events in order, memory began at %d", i, next-1, is.Outbox.FirstSeq)
	}
}

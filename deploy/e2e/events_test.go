package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
)

// TestEventsOverDeadNodes: one who follows events loses none and gets none
// twice, while the nodes that serve him are killed one after the other and writes go on.
func TestEventsOverDeadNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "")
	follower, err := client.New(client.Options{Servers: c.urls})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	w := &writer{c: c}
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; ctx.Err() == nil; i++ {
			_ = w.write(i % 3) // a dead node's share fails
			time.Sleep(5 * time.Millisecond)
		}
	}()
	defer func() { stop(); <-written }()

	reading, giveUp := context.WithTimeout(t.Context(), 3*time.Minute)
	defer giveUp()
	const span = 150
	next, kills := uint64(1), 0
	for ev, err := range follower.Events(reading, client.EventQuery{Since: "0"}) {
		if err != nil {
			t.Fatalf("before event %d: %v", next, err)
		}
		if ev.TenantSeq != next {
			t.Fatalf("event %d came, not %d", ev.TenantSeq, next)
		}
		if next++; next%span != 0 {
			continue
		}
		if kills == 4 {
			break
		}
		node := kills % 3 // the follower begins at the first, and goes on at the next
		kills++
		c.kill(node)
		c.start()
	}
	t.Logf("%d events in order over %d dead nodes", next-1, kills)
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/deploy/local"
)

// before is the last commit whose binary knows feature level 1 alone.
const before = "b5b248c956e6695519c57338125035eca69c42e5"

// oldBinary builds the node of that commit, out of the history.
func oldBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	archive := filepath.Join(dir, "source.tar")
	run("git", "-C", "../..", "archive", "--output", archive, before)
	run("tar", "-xf", archive, "-C", dir)
	bin := filepath.Join(dir, "envoy-control-plane")
	run("go", "build", "-C", dir, "-o", bin, "./cmd/envoy-control-plane")
	return bin
}

// runs has a node run another binary, from the same disk.
func (c *cluster) runs(i int, bin string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 40*time.Second)
	defer cancel()
	if err := c.nodes[i].Stop(ctx); err != nil {
		c.t.Fatal(err)
	}
	c.options[i].Bin = bin
	c.start()
}

// TestUpgrade: nodes of two versions work together while writes go on; going
// back is safe until the upgrade is finalised, and refused after it.
func TestUpgrade(t *testing.T) {
	c := newCluster(t, 3, "")
	old, now := oldBinary(t), c.options[0].Bin
	for i := range c.options { // the old API is another one than the document's
		c.options[i].Bin = old
		c.urls[i] = "http://127.0.0.1:" + strconv.Itoa(c.options[i].Ports.HTTP)
	}
	c.start()
	writer, err := client.New(client.Options{Servers: c.urls, RetryFor: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("service-%d", n)
			_, err := writer.PutEndpoints(context.WithoutCancel(ctx), name, json.RawMessage(`{"cluster_name":"`+name+`"}`))
			if err != nil {
				t.Errorf("write %d: %v", n, err)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		written <- n
	}()

	for i := range c.nodes {
		c.runs(i, now)
	}
	c.ecpctl(1, "", "cluster", "read-only", "on") // not before it is finalised
	c.runs(0, old)                                // nothing stands in the way
	c.runs(0, now)
	c.ecpctl(0, "", "cluster", "finalize")
	stop()
	n := <-written
	c.ecpctl(0, "", "cluster", "read-only", "on")
	c.ecpctl(0, "", "cluster", "read-only", "off")

	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := c.nodes[0].Stop(ctx); err != nil {
		t.Fatal(err)
	}
	o := c.options[0]
	o.Bin = old
	node, err := local.StartNode(o)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-node.Done():
	case <-ctx.Done():
		_ = node.Stop(context.WithoutCancel(ctx))
		t.Fatal("the old binary runs on")
	}
	if log, err := os.ReadFile(node.LogFile()); err != nil || !strings.Contains(string(log), "needs a newer binary") {
		t.Errorf("the old binary said (%v): %s", err, tail(log, 2000))
	}
	c.start()
	for i := range n {
		var row struct{ Service string }
		if err := get(fmt.Sprintf("%s/api/v1/tenants/default/endpoints/service-%d?consistency=strong", c.urls[0], i), &row); err != nil {
			t.Fatalf("acknowledged write %d of %d: %v", i, n, err)
		}
	}
	t.Logf("%d writes", n)
}

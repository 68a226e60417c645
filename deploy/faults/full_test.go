package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
)

// fillDisk leaves a node no block of its disk for a while.
func fillDisk(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	if err := c.fill(i); err != nil {
		return err
	}
	time.Sleep(hold + time.Second)
	return c.empty(i)
}

// fillAll leaves no node a block. The cluster has to refuse writes, and to do
// everything else.
func fillAll(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	const elections = 3
	if err := c.fillAll(); err != nil {
		return err
	}
	err := c.livesFull(elections)
	time.Sleep(hold)
	return errors.Join(err, c.emptyAll())
}

// Fifty elections while no node has room for anything.
func TestElectionsOnFullDisks(t *testing.T) {
	_, _, dir := settings(t)
	steps := history.NewTrace()
	t.Cleanup(func() { keep(t, steps, dir, 0) })
	c := startCluster(t, dir, steps)
	if err := c.fillAll(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.livesFull(50); err != nil {
		t.Error(err)
	}
	t.Logf("50 elections in %s", time.Since(began).Round(time.Millisecond))
	if err := c.emptyAll(); err != nil {
		t.Fatal(err)
	}
	if err := c.steady(); err != nil {
		t.Error(err)
	}
}

func (c *cluster) ballast(i int) string { return filepath.Join(c.disk(i), "ballast") }

// fill takes every free block of a node's disk.
func (c *cluster) fill(i int) error {
	f, err := os.Create(c.ballast(i))
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for _, grain := range []int64{1 << 20, 64 << 10, 4 << 10} {
		for ; err == nil; size += grain {
			err = unix.Fallocate(int(f.Fd()), 0, size, grain)
		}
		if !errors.Is(err, unix.ENOSPC) {
			return errors.Join(fmt.Errorf("fill the disk: %w", err), os.Remove(f.Name()))
		}
		size, err = size-grain, nil
	}
	return nil
}

// empty gives the blocks back; the node must have outlived it.
func (c *cluster) empty(i int) error {
	alive := c.runs(i)
	if err := os.Remove(c.ballast(i)); err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("the full disk has killed %s", nodeID(i))
	}
	return nil
}

func (c *cluster) fillAll() error {
	for i := range c.nodes {
		if err := c.fill(i); err != nil {
			return err
		}
	}
	return nil
}

// emptyAll gives all disks room, and waits until there are writes again.
func (c *cluster) emptyAll() error {
	var errs []error
	for i := range c.nodes {
		errs = append(errs, c.empty(i))
	}
	return errors.Join(append(errs, within(patience, "writes go on", func() error {
		code, err := c.bulk(0)
		if err == nil && code != "" {
			err = fmt.Errorf("refused: %s", code)
		}
		return err
	}))...)
}

// livesFull wants a cluster without room to refuse writes, and to elect and
// read all the same.
func (c *cluster) livesFull(elections int) error {
	refused := func(i int) func() error {
		return func() error {
			code, err := c.bulk(i)
			if err == nil && code != wire.CodeStorageFull {
				err = fmt.Errorf("a write to full disks is answered by %q", code)
			}
			return err
		}
	}
	// What the logs have of free pages takes some more.
	if err := within(patience, "writes are refused", refused(0)); err != nil {
		return err
	}
	for round := range elections {
		old, err := c.leader()
		if err != nil {
			return err
		}
		next := (old + 1 + round%(size-1)) % size
		if err := within(patience, "election", func() error { return c.elect(next) }); err != nil {
			return err
		}
		if err := within(patience, "a strong read", func() error { return c.readsStrongly(old) }); err != nil {
			return err
		}
	}
	for i := range c.nodes {
		if err := within(patience, "writes are refused", refused(i)); err != nil {
			return err
		}
	}
	return nil
}

// bulk asks node i for a large write and returns the code of its refusal.
func (c *cluster) bulk(i int) (wire.Code, error) {
	const endpoint = `{"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": %d}}}}`
	var all []string
	for port := range 3000 {
		all = append(all, fmt.Sprintf(endpoint, port+1))
	}
	body := []byte(`{"endpoints": [{"lb_endpoints": [` + strings.Join(all, ",") + `]}]}`)
	key := fmt.Sprint("bulk-", time.Now().UnixNano())
	a, err := c.http.Send(context.Background(), http.MethodPut, c.url(i)+load.TenantPath+"/endpoints/"+key, key, body)
	if err != nil {
		return "", err
	}
	if a.Status/100 == 2 {
		return "", nil
	}
	return a.Code(), nil
}

// elect has node i take over.
func (c *cluster) elect(i int) error {
	body, err := json.Marshal(wire.LeaderTransfer{Node: nodeID(i)})
	if err != nil {
		return err
	}
	a, err := c.http.Send(context.Background(), http.MethodPost, c.url(i)+wire.Prefix+"/cluster/leader", fmt.Sprint("elect-", time.Now().UnixNano()), body)
	if err == nil && a.Status/100 != 2 {
		err = fmt.Errorf("%d: %s", a.Status, a.Body)
	}
	return err
}

func (c *cluster) readsStrongly(i int) error {
	a, err := c.http.Send(context.Background(), http.MethodGet, c.url(i)+load.TenantPath+"/fleets?consistency=strong", "", nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", nodeID(i), a.Status, a.Body)
	}
	return err
}

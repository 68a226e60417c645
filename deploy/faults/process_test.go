package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault breaks something for a while, and mends it.
type fault struct {
	name string
	do   func(c *cluster, i int, hold time.Duration, r *rand.Rand) error
}

// nodeFaults are those of nodes, their disks and the network. After each one
// the cluster has to become whole again.
func nodeFaults() []fault {
	return []fault{
		{"kill -9", kill},
		{"kill -9 of all", killAll},
		{"SIGSTOP", pause},
		{"SIGTERM", terminate},
		{"wiped disk", wipe},
		{"new IP", readdress},
		{"cut off", cutOff},
		{"hears nothing", deaf},
		{"is not heard", mute},
		{"one link cut", oneLink},
		{"flapping", flap},
		{"all apart", allApart},
		{"full disk", fillDisk},
		{"all disks full", fillAll},
		{"slow fsync", slowDisk},
		{"failing fsync", brokenDisk},
		{"flipped bits", flipBits},
		{"truncated file", truncate},
	}
}

func kill(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	c.nodes[i].Kill()
	time.Sleep(hold)
	return c.startAll()
}

func killAll(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	for _, n := range c.nodes {
		n.Kill()
	}
	time.Sleep(hold / 4)
	return c.startAll()
}

func pause(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	if err := c.nodes[i].Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(hold)
	return c.nodes[i].Signal(syscall.SIGCONT)
}

func terminate(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	if err := c.end(i); err != nil {
		return err
	}
	time.Sleep(hold / 4)
	return c.startAll()
}

// end stops a node by SIGTERM; it has to exit with 0 within its time.
func (c *cluster) end(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.nodes[i].Stop(ctx)
}

func wipe(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	c.nodes[i].Kill()
	if err := os.RemoveAll(c.data(i)); err != nil {
		return err
	}
	time.Sleep(hold / 4)
	return c.startAll()
}

func readdress(c *cluster, i int, hold time.Duration, r *rand.Rand) error {
	c.nodes[i].Kill()
	if err := c.net.move(i, fmt.Sprint(subnet, 10+10*i+r.IntN(10))); err != nil {
		return err
	}
	c.trace.Note("%s is now at %s", nodeID(i), c.net.ip(i))
	time.Sleep(hold / 4)
	return c.startAll()
}

// Faults of Postgres, which is no node: the target means nothing.
func databaseFaults() []fault {
	return []fault{
		{"postgres stopped", func(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := c.database.postgres.Stop(ctx); err != nil {
				return err
			}
			time.Sleep(hold)
			return c.database.start()
		}},
		// Postgres was told to be careless, so this loses its last transactions.
		{"postgres killed", func(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
			c.database.postgres.Kill()
			time.Sleep(hold)
			return c.database.start()
		}},
		{"postgres paused", func(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
			processes, err := family(c.database.postgres.Pid())
			if err != nil {
				return err
			}
			for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
				for _, pid := range processes {
					_ = syscall.Kill(pid, signal) // one may have ended
				}
				if signal == syscall.SIGSTOP {
					time.Sleep(hold)
				}
			}
			return nil
		}},
		{"connections of postgres cut", func(c *cluster, _ int, hold time.Duration, r *rand.Rand) error {
			for end := time.Now().Add(hold); time.Now().Before(end); {
				c.database.gate.cut()
				time.Sleep(upTo(r, 200*time.Millisecond))
			}
			return nil
		}},
	}
}

// family returns a process and its children.
func family(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	all := []int{pid}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			all = append(all, child)
		}
	}
	return all, nil
}

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
)

// The leader dies at every moment of its work on the archive, and Postgres has
// faults that are its own, while clients write. After each round every write is
// in Postgres once.
func TestArchive(t *testing.T) {
	seed, _, dir := settings(t)
	kills := 1 // one round has them all
	if text := os.Getenv("ECP_FAULTS_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal("ECP_FAULTS_KILLS:", err)
		}
	}
	t.Logf("seed %d, files in %s", seed, dir)
	steps := history.NewTrace()
	t.Cleanup(func() { keep(t, steps, dir, seed) })
	c := startCluster(t, dir, steps)
	h := history.New()
	users := make([]*load.Client, clients)
	for i := range users {
		users[i] = load.New(load.Options{ID: i, Seed: seed, URLs: c.urls, History: h, Broken: t.Errorf})
	}
	for round := 0; c.kills < kills && !t.Failed(); round++ {
		run(c, users, round, func() {
			c.suffer(schedule(seed, round, only(t, archiveFaults())), true)
		})
		t.Logf("round %d: %d leaders killed so far, the cursor is at %d", round, c.kills, c.database.cursor())
	}
}

// archiveFaults are those of the archive's writer and of its database.
func archiveFaults() []fault {
	faults := []fault{
		{"vanished writer", vanish},
		{"failover to a standby", failOver},
		{"locked table", lockTable},
		{"read-only database", readOnly},
		{"no connections left", useUp},
	}
	for _, m := range moments() {
		faults = append(faults, fault{"kill -9 at " + string(m), killAt(m)})
	}
	return faults
}

// writerAt holds the writer at a moment, and tells which node it is.
func (c *cluster) writerAt(m moment) (t *trap, i int, err error) {
	t, host, err := c.database.gate.catch(m)
	if err != nil {
		return nil, 0, err
	}
	for i := range c.nodes {
		if c.net.ip(i) == host {
			c.trace.Note("%s is held at %s", nodeID(i), m)
			return t, i, nil
		}
	}
	t.pass <- false
	return nil, 0, fmt.Errorf("%s is no node", host)
}

func killAt(m moment) func(*cluster, int, time.Duration, *rand.Rand) error {
	return func(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
		t, i, err := c.writerAt(m)
		if err != nil {
			return err
		}
		c.nodes[i].Kill()
		t.pass <- false
		c.kills++
		time.Sleep(hold / 4)
		return c.startAll()
	}
}

// vanish stops the leader while it holds the cursor's lock; its connection
// stays. The next leader must write long before a timeout of Postgres or TCP.
func vanish(c *cluster, _ int, _ time.Duration, r *rand.Rand) error {
	held := []moment{atRows, atCopied, atCommit}
	t, i, err := c.writerAt(held[r.IntN(len(held))])
	if err != nil {
		return err
	}
	if err := c.nodes[i].Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	from := c.database.cursor()
	err = within(25*time.Second, "another leader writes", func() error {
		if c.database.cursor() <= from {
			return errors.New("the cursor does not move")
		}
		return nil
	})
	t.pass <- true
	return errors.Join(err, c.nodes[i].Signal(syscall.SIGCONT))
}

func lockTable(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	return c.database.with(func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE fleet_events IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		time.Sleep(2 * hold) // sometimes longer than the writer waits
		_, err := conn.Exec(ctx, "COMMIT")
		return err
	})
}

func readOnly(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	return c.database.with(func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range []string{"SET default_transaction_read_only = on", "RESET default_transaction_read_only"} {
			if _, err := conn.Exec(ctx, "ALTER SYSTEM "+sql); err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
				return err
			}
			if sql[0] == 'S' {
				time.Sleep(hold)
			}
		}
		return nil
	})
}

// useUp takes every connection that Postgres has to give.
func useUp(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	ctx := context.Background()
	var taken []*pgx.Conn
	defer func() {
		for _, conn := range taken {
			_ = conn.Close(ctx)
		}
	}()
	for end := time.Now().Add(hold); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for {
			conn, err := pgx.Connect(ctx, c.database.postgres.URL)
			if err != nil {
				break
			}
			taken = append(taken, conn)
		}
		c.database.gate.cut()
	}
	if len(taken) < maxConnections/2 {
		return fmt.Errorf("only %d connections of %d taken", len(taken), maxConnections)
	}
	return nil
}

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
)

// failOver gives Postgres a standby, lets it miss the last transactions, kills
// the primary and promotes the standby. What that misses must be written again.
func failOver(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	d := c.database
	standby, link, err := d.follow()
	if err != nil {
		return err
	}
	old := d.postgres
	// It is asynchronous, and from here on it hears nothing.
	link.close()
	time.Sleep(hold)
	err = within(patience, "the primary is ahead", func() error {
		if ahead, has := d.cursor(), cursorOf(standby.URL); ahead <= has {
			return fmt.Errorf("it is at %d, the standby at %d", ahead, has)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, standby.Stop(context.Background()))
	}
	lost := d.cursor()
	old.Kill()
	d.postgres, d.dir = standby, d.nextDir()
	d.generation++
	if err := standby.Promote(context.Background()); err != nil {
		return err
	}
	c.trace.Note("the cursor goes back from %d to %d", lost, d.cursor())
	d.gate.turn(d.host())
	if err := os.RemoveAll(old.Dir); err != nil {
		return err
	}
	return within(patience, "what was missed is written again", func() error {
		if at := d.cursor(); at <= lost {
			return fmt.Errorf("the cursor is at %d of %d", at, lost)
		}
		return nil
	})
}

// follow starts a standby, and returns once it has all that Postgres had.
func (d *database) follow() (standby *local.Postgres, link *gate, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.postgres.Stop(ctx); err != nil {
		return nil, nil, err
	}
	if err := local.CopyPostgres(ctx, d.postgres, d.nextDir()); err != nil {
		return nil, nil, err
	}
	if err := d.start(); err != nil {
		return nil, nil, err
	}
	if link, err = openGate("127.0.0.1:0", d.host()); err != nil {
		return nil, nil, err
	}
	o := d.options()
	o.Dir, o.Port, o.Follow = d.nextDir(), 0, strings.Replace(d.postgres.URL, d.host(), link.address(), 1)
	if standby, err = local.StartPostgres(ctx, o); err != nil {
		return nil, nil, err
	}
	began := cursorOf(standby.URL)
	err = within(patience, "the standby follows", func() error {
		if at := cursorOf(standby.URL); at <= began {
			return fmt.Errorf("it is at %d", at)
		}
		return nil
	})
	if err != nil {
		link.close()
		return nil, nil, errors.Join(err, standby.Stop(context.Background()))
	}
	return standby, link, nil
}

func (d *database) nextDir() string {
	return filepath.Join(filepath.Dir(d.dir), fmt.Sprint("postgres-", d.generation+1))
}

// host is the host and port of the server.
func (d *database) host() string {
	u, err := url.Parse(d.postgres.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	return u.Host
}

// with runs f on a connection that is no node's.
func (d *database) with(f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.postgres.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(ctx, conn)
}

// cursor is where the archive is, 0 where Postgres does not say.
func (d *database) cursor() uint64 { return cursorOf(d.postgres.URL) }

func cursorOf(url string) uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var seq int64
	if err := conn.QueryRow(ctx, "SELECT max(seq) FROM archive_cursor").Scan(&seq); err != nil {
		return 0
	}
	return uint64(seq)
}

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/deploy/load"
)

// flipBits changes a letter of what a stopped node has in its log. It must
// not start, and come back as a new one once its data are moved aside.
func flipBits(c *cluster, i int, hold time.Duration, r *rand.Rand) error {
	return c.damage(i, hold, func(file []byte) ([]byte, error) {
		needle := []byte(load.KeyPrefix)
		var places []int
		for at := 0; ; {
			n := bytes.Index(file[at:], needle)
			if n < 0 {
				break
			}
			places = append(places, at+n)
			at += n + len(needle)
		}
		if len(places) == 0 {
			return nil, errors.New("the log has no write of a client")
		}
		// Every one of them: some lie in pages that are free by now.
		bit := byte(1) << r.IntN(3)
		for _, p := range places {
			file[p+r.IntN(len(needle))] ^= bit
		}
		return file, nil
	})
}

// truncate cuts a stopped node's log file in half; its end, which bolt has
// taken ahead, does not count.
func truncate(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	return c.damage(i, hold, func(file []byte) ([]byte, error) {
		return file[:len(bytes.TrimRight(file, "\x00"))/2], nil
	})
}

// damage kills a node, changes its log, and wants it to refuse to start.
func (c *cluster) damage(i int, hold time.Duration, change func([]byte) ([]byte, error)) error {
	c.nodes[i].Kill()
	path := filepath.Join(c.data(i), "raft.db")
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if file, err = change(file); err != nil {
		return err
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		return err
	}
	if err := c.launch(i); err != nil {
		return err
	}
	select {
	case <-c.nodes[i].Done():
	case <-time.After(patience):
		return fmt.Errorf("%s runs on a damaged log", nodeID(i))
	}
	if err := c.refusedDamage(i); err != nil {
		return err
	}
	aside := filepath.Join(c.disk(i), "aside")
	if err := errors.Join(os.RemoveAll(aside), os.Rename(c.data(i), aside)); err != nil {
		return err
	}
	time.Sleep(hold / 4)
	return c.startAll()
}

// refusedDamage wants the last lines of a node's log to say why it has ended:
// in its own words, not by a panic.
func (c *cluster) refusedDamage(i int) error {
	log, err := os.ReadFile(c.nodes[i].LogFile())
	if err != nil {
		return err
	}
	end := string(log[max(0, len(log)-4000):])
	if strings.Contains(end, "panic") || !strings.Contains(end, "raft.db") {
		return fmt.Errorf("%s does not say that its log is damaged, but:\n%s", nodeID(i), end)
	}
	return nil
}

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A follower that is behind the log is brought up, also when the leader's
// snapshot has turned bad: by another one, or by another leader.
func TestUnreadableSnapshotOfALeader(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(dir string) error{
		"a flipped bit": func(dir string) error {
			return eachFile(dir, "state.bin", func(path string) error {
				body, err := os.ReadFile(path)
				body[len(body)/2] ^= 1
				return errors.Join(err, os.WriteFile(path, body, 0o600))
			})
		},
		"no metadata": func(dir string) error { return eachFile(dir, "meta.json", os.Remove) },
		"no directory": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sites := newSites(t, 3, func(_ int, c *Config, _ *Deps) {
				c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Hour, 1<<40, 2
			})
			upAll(sites)
			awaitReady(t, sites...)
			old := leader(t, sites)
			rest := others(sites, old)
			lagging := rest[0]
			lagging.kill()
			for i := range 30 {
				propose(t, old.node, fmt.Sprintf("t%d", i))
			}
			for _, s := range others(sites, lagging) {
				eventually(t, 10*time.Second, "a snapshot of "+s.cfg.NodeID, func() bool {
					return hasTenant(s.node, "t29") && s.node.rt.Load().raft.Snapshot().Error() == nil
				})
			}
			old = leader(t, sites)
			must(t, damage(filepath.Join(old.cfg.DataDir, "snapshots")))

			lagging.up()
			awaitReady(t, lagging)
			eventually(t, 20*time.Second, "it is brought up", func() bool { return hasTenant(lagging.node, "t29") })
			reasons := func() string { return strings.Join(old.node.Health().Reasons, ";") }
			if name == "no directory" {
				if lead := leader(t, sites); lead == old {
					t.Error("a leader that can make no snapshot has not handed over")
				}
				if !strings.Contains(reasons(), "doctor") {
					t.Errorf("it says %q", reasons())
				}
				return
			}
			eventually(t, 10*time.Second, "it is well again", func() bool { return reasons() == "" })
		})
	}
}

// eachFile does something to a file of each snapshot.
func eachFile(dir, name string, do func(path string) error) error {
	all, err := filepath.Glob(filepath.Join(dir, "*", name))
	if err == nil && len(all) == 0 {
		err = errors.New("no snapshot has " + name)
	}
	for _, path := range all {
		err = errors.Join(err, do(path))
	}
	return err
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
)

// scenario runs one schedule that is written down, on three nodes.
func scenario(t *testing.T, do func(s *simulation) error) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	bubble(t, func() {
		s := newSimulation(1, dir, simPlan{hosts: 3, founders: 3, timers: Timers{Commit: 150 * time.Millisecond}})
		defer s.end()
		s.down(func(*simHost) {}, s.hosts...)()
		err := s.found()
		if err == nil {
			err = do(s)
		}
		if err = errors.Join(append(s.checks.errs, err)...); err != nil {
			path, failed := s.trace.save(simArtifacts(), 1)
			t.Error(err, failed, path)
		}
	})
}

// until waits in simulated time.
func until(what string, ok func() bool) error {
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > simPatience {
			return fmt.Errorf("not within %s: %s", simPatience, what)
		}
	}
	return nil
}

// A transfer to a follower that hangs, once more, and then the leader is
// deposed: Raft goes on believing in that transfer and, the next time it leads,
// refuses whatever it is given.
func TestStuckTransferDoesNotStopWrites(t *testing.T) {
	scenario(t, func(s *simulation) error {
		lead := s.target(simLeader)
		to := s.hosts[0]
		if to == lead {
			to = s.hosts[1]
		}
		cut := func(links []simLink, on bool) { s.net.change(links, func(w *simWeather) { w.cut = on }) }
		transfer := func(h *simHost) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			s.trace.note(h.id, "is to lead: %v", lead.node.node.TransferLeadership(ctx, h.id))
		}
		// The follower misses an entry, so that a transfer has to wait for it.
		cut([]simLink{{lead.id, to.id}}, true)
		if err := s.writeAt(lead, "missed"); err != nil {
			return err
		}
		transfer(to)
		transfer(to)
		away := linksBetween([]string{lead.id}, s.ids())
		cut(away, true)
		if err := until("it is deposed", func() bool { return !lead.node.node.IsLeader() }); err != nil {
			return err
		}
		time.Sleep(20 * time.Second)
		cut(away, false)
		for began := time.Now(); !lead.node.node.IsLeader(); time.Sleep(time.Second) {
			if time.Since(began) > simPatience {
				return errors.New("it never leads again")
			}
			transfer(lead)
		}
		time.Sleep(10 * time.Second)
		ctx, end := context.WithTimeout(context.Background(), simAttempt)
		defer end()
		if _, err := lead.node.node.Propose(ctx, putTenant("after")); err != nil {
			return fmt.Errorf("it leads, and refuses: %w", err)
		}
		return nil
	})
}

// writeAt writes on one node.
func (s *simulation) writeAt(h *simHost, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), simAttempt)
	defer cancel()
	r, err := h.node.node.Propose(ctx, putTenant(name))
	if err != nil {
		return err
	}
	return fsm.ResultError(r)
}

// A node that is started on a disk that has failed leaves Raft, and can be
// stopped.
func TestStartOnAFailedDisk(t *testing.T) {
	scenario(t, func(s *simulation) error {
		h := s.hosts[0]
		s.down((*simHost).crash, h)
		h.disk.Load().set(func(d *simDisk) { d.fail = fmt.Errorf("simulated: %w", syscall.EIO) })
		if err := h.start(); err != nil {
			return err
		}
		if err := until("it has left Raft", func() bool { return h.node.node.failed.Load() != nil }); err != nil {
			return err
		}
		began := time.Now()
		s.down((*simHost).crash, h)
		if took := time.Since(began); took > time.Minute {
			return fmt.Errorf("it took %s to stop", took)
		}
		return nil
	})
}

// A leader that is cut off is replaced as soon as it is given up: nobody waits for
// a timer of Raft's, and candidates do not take the votes from each other.
func TestLostLeaderIsReplacedAtOnce(t *testing.T) {
	scenario(t, func(s *simulation) error {
		for range 100 {
			lead := s.target(simLeader)
			away := linksBetween([]string{lead.id}, s.ids())
			s.net.change(away, func(w *simWeather) { w.cut = true })
			began := time.Now()
			replaced := func() bool {
				return slices.ContainsFunc(s.hosts, func(h *simHost) bool { return h != lead && h.node.node.IsLeader() })
			}
			if err := until("another one leads", replaced); err != nil {
				return err
			}
			if took, most := time.Since(began), lead.node.node.cfg.Heartbeat*6/5+2*transport.GiveWay+50*time.Millisecond; took > most {
				return fmt.Errorf("it took %s, more than %s", took, most)
			}
			s.net.change(away, func(w *simWeather) { w.cut = false })
			time.Sleep(5 * time.Second)
		}
		return nil
	})
}

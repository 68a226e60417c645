package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
)

// What strace makes of a node's fsyncs. Bolt calls fdatasync, and fsync when
// its file grows.
const (
	slowly  = "delay_enter=500000" // microseconds
	failing = "error=EIO"
)

// slowDisk makes every fsync of a node take half a second. On a follower that
// must not bring about an election.
func slowDisk(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	return c.syncsSlowly(hold+time.Second, i)
}

// brokenDisk makes every fsync of a node fail. It must leave Raft, serve what it
// has, and be as before once it is restarted on a disk that works.
func brokenDisk(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	s, err := c.tamper(i, failing)
	if err != nil {
		return err
	}
	err = within(patience, "it leaves Raft", func() error {
		a, err := c.http.Send(context.Background(), http.MethodGet, c.url(i)+"/ready", "", nil)
		if err == nil && (a.Status != http.StatusOK || !strings.Contains(string(a.Body), "left Raft")) {
			err = fmt.Errorf("%s says %d %s", nodeID(i), a.Status, a.Body)
		}
		return err
	})
	if err != nil {
		return errors.Join(err, s.end())
	}
	time.Sleep(hold)
	a, err := c.http.Send(context.Background(), http.MethodGet, c.url(i)+load.TenantPath+"/fleets", "", nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("a local read on a broken disk: %d %s", a.Status, a.Body)
	}
	return errors.Join(err, s.end(), c.end(i), c.startAll())
}

// Half a second for every fsync on both followers: writes go on, nobody is
// elected.
func TestSlowFollowersElectNobody(t *testing.T) {
	seed, soak, dir := settings(t)
	steps := history.NewTrace()
	t.Cleanup(func() { keep(t, steps, dir, seed) })
	c := startCluster(t, dir, steps)
	length := 20 * time.Second
	if soak > 0 {
		length = time.Minute
	}
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	h := history.New()
	users := make([]*load.Client, clients)
	for i := range users {
		users[i] = load.New(load.Options{ID: i, Seed: seed, URLs: c.urls, History: h, Broken: t.Errorf})
	}
	k := load.KeysOfRound(0)
	for _, fleet := range k.Fleets {
		c.putFleet(fleet)
	}
	ctx, cancel := context.WithCancel(t.Context())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		load.Run(ctx, k, users)
	}()
	err = c.syncsSlowly(length, (leader+1)%size, (leader+2)%size)
	cancel()
	<-loaded
	if err != nil {
		t.Error(err)
	}
	did := history.Summary(h.Take())
	t.Logf("%v", did)
	if did["put applied"] == 0 {
		t.Error("nothing was written meanwhile")
	}
}

// syncsSlowly makes the fsyncs of nodes slow for a while. It wants the term to
// stay if these are followers; a machine that is too busy for any timer gets
// another chance or two, a node whose fsyncs delay its heartbeats fails each time.
func (c *cluster) syncsSlowly(length time.Duration, nodes ...int) error {
	const chances = 3
	for chance := 1; ; chance++ {
		leader, err := c.leader()
		if err != nil {
			return err
		}
		before, err := c.asks(leader)
		if err != nil {
			return err
		}
		if err := c.tamperAll(length, slowly, nodes...); err != nil {
			return err
		}
		after, err := c.asks(leader)
		if err != nil {
			return err
		}
		for _, i := range nodes {
			if i == leader {
				return nil
			}
		}
		if after.Term == before.Term {
			return nil
		}
		c.trace.Note("slow fsyncs: term %d became %d", before.Term, after.Term)
		if chance == chances {
			return fmt.Errorf("slow fsyncs on %v, which do not lead: from term %d to %d, and so %d times", nodes, before.Term, after.Term, chances)
		}
		if err := c.steady(); err != nil {
			return err
		}
	}
}

// tamperAll does so with several nodes for a while.
func (c *cluster) tamperAll(length time.Duration, how string, nodes ...int) error {
	var errs []error
	var all []*strace
	for _, i := range nodes {
		s, err := c.tamper(i, how)
		if err != nil {
			errs = append(errs, err)
			break
		}
		all = append(all, s)
	}
	if len(errs) == 0 {
		time.Sleep(length)
	}
	for _, s := range all {
		errs = append(errs, s.end())
	}
	return errors.Join(errs...)
}

// strace tampers with the system calls of a process while it runs.
type strace struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	log  string
}

// tamper has every fsync of a node go wrong in a way.
func (c *cluster) tamper(i int, how string) (*strace, error) {
	pid := strconv.Itoa(c.nodes[i].Pid())
	s := &strace{log: filepath.Join(c.dir, "strace-"+nodeID(i)+".log")}
	s.cmd = exec.Command("strace", "-f", "-p", pid, "-o", s.log, "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:"+how)
	s.cmd.Stderr = &s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	err := within(10*time.Second, "strace works", func() error {
		log, err := os.ReadFile(s.log)
		if err == nil && !bytes.Contains(log, []byte("INJECTED")) && !bytes.Contains(log, []byte("DELAYED")) {
			err = errors.New("it has met no fsync")
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// end lets the process go.
func (s *strace) end() error {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("strace: %w: %s", err, s.said.String())
	}
	_ = s.cmd.Wait() // it ends by the signal
	return os.Remove(s.log)
}

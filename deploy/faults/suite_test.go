package faults

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
)

// clients is how many there are at once.
const clients = 8

// Rounds of faults go over a cluster while clients write and read. After each
// one, everything is checked.
func TestFaults(t *testing.T) {
	seed, length, dir := settings(t)
	t.Logf("seed %d, files in %s", seed, dir)
	steps := history.NewTrace()
	t.Cleanup(func() { keep(t, steps, dir, seed) }) // after everything has been stopped
	c := startCluster(t, dir, steps)
	h := history.New()
	users := make([]*load.Client, clients)
	for i := range users {
		users[i] = load.New(load.Options{ID: i, Seed: seed, URLs: c.urls, History: h, Broken: func(format string, args ...any) {
			t.Errorf(format, args...)
			c.trace.Note(format, args...)
		}})
	}
	for round, end := 0, time.Now().Add(length); !t.Failed(); round++ {
		run(c, users, round, func() {
			archived := make(chan struct{})
			go func() {
				defer close(archived)
				c.suffer(schedule(seed+1, round, only(t, databaseFaults())), false)
			}()
			c.suffer(schedule(seed, round, only(t, nodeFaults())), true)
			<-archived
		})
		if time.Now().After(end) {
			break
		}
	}
}

// settings reads the environment.
func settings(t *testing.T) (seed uint64, length time.Duration, dir string) {
	seed = rand.Uint64()
	if text := os.Getenv("ECP_FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("ECP_FAULTS_SEED:", err)
		}
	}
	if text := os.Getenv("ECP_FAULTS_FOR"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal("ECP_FAULTS_FOR:", err)
		}
	}
	return seed, length, folder(t)
}

// folder outlives a test that has failed, unlike t.TempDir.
func folder(t *testing.T) string {
	dir := os.Getenv("ECP_FAULTS_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "ecp-faults-"+strconv.FormatUint(rand.Uint64(), 36))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run is one round: load while there are faults, and a check.
func run(c *cluster, users []*load.Client, round int, faults func()) {
	k := load.KeysOfRound(round)
	for _, fleet := range k.Fleets {
		c.putFleet(fleet)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		load.Run(ctx, k, users)
	}()
	faults()
	cancel()
	<-loaded
	if c.t.Failed() {
		return
	}
	check(c, k, round, users[0].History)
}

// only returns the faults whose name the environment asks for.
func only(t *testing.T, faults []fault) []fault {
	names, err := regexp.Compile(os.Getenv("ECP_FAULTS_ONLY"))
	if err != nil {
		t.Error("ECP_FAULTS_ONLY:", err)
	}
	return slices.DeleteFunc(faults, func(f fault) bool { return err != nil || !names.MatchString(f.name) })
}

func (c *cluster) putFleet(name string) {
	err := within(patience, "make a fleet", func() error { return c.http.PutFleet(context.Background(), c.url(0), name) })
	if err != nil {
		c.t.Fatal(err)
	}
}

// suffer goes through a schedule. After each fault of nodes the cluster must
// be whole again.
func (c *cluster) suffer(steps []step, nodes bool) {
	for _, s := range steps {
		if c.t.Failed() {
			return
		}
		target := s.target
		if nodes && target == leading {
			var err error
			if target, err = c.leader(); err != nil {
				c.t.Errorf("before %s: %v", s, err)
				return
			}
		}
		c.trace.Note("%s: begins at %d", s, target)
		err := s.fault.do(c, target, s.hold, rand.New(rand.NewPCG(s.salt, 0)))
		c.trace.Note("%s: has ended", s)
		if err == nil && nodes {
			err = c.steady()
			c.trace.Note("the cluster is whole")
		}
		if err != nil {
			c.t.Errorf("%s (node %d): %v", s, target, err)
			return
		}
		time.Sleep(s.rest)
	}
}

// keep leaves everything there when the test has failed, and says where.
func keep(t *testing.T, steps *history.Trace, dir string, seed uint64) {
	if err := steps.Save(filepath.Join(dir, "trace.log")); err != nil {
		t.Error(err)
	}
	switch {
	case t.Failed():
		t.Logf("failed with ECP_FAULTS_SEED=%d; history, trace and logs are in %s", seed, dir)
	case os.Getenv("ECP_FAULTS_DIR") == "":
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

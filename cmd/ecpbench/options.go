package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// profiledChanges is how many changes a profile covers at least: with a few,
// a hundred samples a second say little.
const profiledChanges = 300

// spareFiles are those that a process has open beside its connections.
const spareFiles = 64

// options are the flags of fanout and connect; changes is 0 for connect.
type options struct {
	protocol            protocol
	clusters, endpoints int
	fleets              int
	// profiled has a server process note more of its allocations than is cheap.
	// resumed tells it that its clients were configured before.
	profiled, resumed bool

	streams, rounds, changes, parallel int
	rate                               int           // of changes, a second; 0: one at a time
	lasting                            time.Duration // of the rate
	distinct, again, drain, storm      bool
	servers                            []string
	timeout, settle                    time.Duration
	output, profile                    string
}

// addScene adds the flags that a server process has as well.
func (o *options) addScene(f *pflag.FlagSet) {
	f.StringVar((*string)(&o.protocol), "protocol", string(delta), "delta or sotw")
	f.IntVar(&o.clusters, "clusters", 100, "clusters, each with endpoints of its own")
	f.IntVar(&o.endpoints, "endpoints", 10, "endpoints of a cluster")
	f.BoolVar(&o.profiled, "profiled", false, "take more samples of what is allocated")
	f.BoolVar(&o.resumed, "resumed", false, "serve clients that were configured before")
	f.IntVar(&o.fleets, "fleets", 1, "fleets, each with its share of the proxies and clusters of its own")
	f.Lookup("profiled").Hidden, f.Lookup("resumed").Hidden = true, true
}

func (o *options) addFlags(f *pflag.FlagSet) {
	o.addScene(f)
	f.IntVar(&o.streams, "streams", 1000, "proxies, with a connection and a stream each")
	f.IntVar(&o.rounds, "rounds", 5, "turns of each server")
	f.IntVar(&o.parallel, "parallel", 256, "proxies that connect at a time")
	f.BoolVar(&o.distinct, "distinct", false, "each proxy asks for a name more, which only it knows and nobody has")
	f.StringSliceVar(&o.servers, "servers", serverNames(), "servers to measure; without b0 there are no ratios")
	f.DurationVar(&o.settle, "settle", 300*time.Millisecond, "rest before a server's memory is read")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "time for the whole run")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.StringVar(&o.profile, "profile", "",
		"`DIR` for a CPU and a heap profile of each server, taken in a round more that does not count")
}

func (o *options) checkScene() error {
	switch {
	case o.protocol != delta && o.protocol != stateOfTheWorld:
		return misuse("--protocol is %q; it is delta or sotw", o.protocol)
	case o.clusters < 1 || o.clusters > 10_000:
		return misuse("--clusters is %d; it is 1 to 10000", o.clusters)
	case o.fleets < 1 || o.fleets > 10_000:
		return misuse("--fleets is %d; it is 1 to 10000", o.fleets)
	case o.endpoints < 1 || o.endpoints > 250:
		return misuse("--endpoints is %d; it is 1 to 250", o.endpoints)
	}
	return nil
}

func (o *options) check() error {
	if err := o.checkScene(); err != nil {
		return err
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"streams", o.streams}, {"rounds", o.rounds}, {"parallel", o.parallel}} {
		if n.value < 1 {
			return misuse("--%s is %d; it is at least 1", n.flag, n.value)
		}
	}
	if (o.again || o.drain) && o.fleets > 1 || o.fleets > o.streams {
		return misuse("--fleets is %d; with --again or --drain it is 1, and never more than --streams", o.fleets)
	}
	if o.output != "table" && o.output != "json" {
		return misuse("--output is %q; it is table or json", o.output)
	}
	if o.timeout <= 0 || o.settle < 0 {
		return misuse("--timeout must be positive, and --settle not negative")
	}
	if err := checkNames(o.servers, serverNames()); err != nil {
		return err
	}
	return o.checkFiles()
}

// checkNames holds --servers against the names that there are.
func checkNames(servers, names []string) error {
	if len(servers) == 0 {
		return misuse("--servers names none of %s", strings.Join(names, ", "))
	}
	for i, name := range servers {
		if !slices.Contains(names, name) {
			return misuse("--servers names %q; there are %s", name, strings.Join(names, ", "))
		}
		if slices.Contains(servers[:i], name) {
			return misuse("--servers names %s twice", name)
		}
	}
	return nil
}

// checkFiles holds the connections against the limit of open files, which is
// that of a server process, too.
func (o *options) checkFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if uint64(o.streams)+spareFiles > limit.Cur {
		return misuse("--streams is %d, and a process may open %d files", o.streams, limit.Cur)
	}
	return nil
}

// addFanout adds the flags of fanout alone.
func (o *options) addFanout(f *pflag.FlagSet) {
	f.IntVar(&o.changes, "changes", 20, "changes that are measured in a round")
	f.IntVar(&o.rate, "rate", 0, "changes a second, instead of one at a time")
	f.DurationVar(&o.lasting, "for", 10*time.Second, "how long the rate lasts")
}

func (o *options) checkFanout() error {
	if o.rate > 0 {
		o.changes = int(o.lasting.Seconds() * float64(o.rate))
	}
	switch {
	case o.rate < 0 || o.rate > 0 && o.fleets > 1:
		return misuse("--rate is %d; it is positive, and for one fleet", o.rate)
	case o.changes < 1 || o.changes > maxChanges-maxSpare:
		return misuse("--changes, or --rate times --for, is %d; it is 1 to %d", o.changes, maxChanges-maxSpare)
	}
	return nil
}

// forProfile are the options of the round that is profiled.
func (o *options) forProfile() *options {
	p := *o
	p.profiled = true
	if p.changes > 0 {
		p.changes = min(max(p.changes, profiledChanges), maxChanges-maxSpare)
	}
	return &p
}

// makeProfileDir makes the folder of the profiles, if there is to be one.
func (o *options) makeProfileDir() error {
	if o.profile == "" {
		return nil
	}
	if err := os.MkdirAll(o.profile, 0o750); err != nil {
		return fmt.Errorf("make the folder for profiles: %w", err)
	}
	return nil
}

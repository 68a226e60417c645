package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

// trioOptions are the flags of the benchmarks of whole clusters.
type trioOptions struct {
	servers  []string
	ecp      string // path of envoy-control-plane
	etcd     string
	dir      string
	ecpArgs  []string
	rounds   int
	timeout  time.Duration
	output   string
	lasting  time.Duration
	clients  int
	size     int
	rate     int
	busy     int
	syncs    bool
	proxies  int
	kills    int
	orderly  bool
	services int
	// subscribers have streams of events open, all of them of every event.
	subscribers, all int
}

func (o *trioOptions) addFlags(f *pflag.FlagSet, rounds int) {
	f.StringSliceVar(&o.servers, "servers", []string{trio.Etcd, trio.ECP}, "clusters to measure; without etcd there are no ratios")
	f.StringVar(&o.ecp, "bin", besideMe("envoy-control-plane"), "the program envoy-control-plane")
	f.StringVar(&o.etcd, "etcd", "etcd", "the program etcd")
	f.StringVar(&o.dir, "dir", "", "`DIR` on the disk to measure; a new folder in it is removed at the end (default: the one for temporary files)")
	f.StringSliceVar(&o.ecpArgs, "serve-args", nil, "flags more for envoy-control-plane serve")
	f.IntVar(&o.rounds, "rounds", rounds, "turns of each cluster")
	f.DurationVar(&o.timeout, "timeout", time.Hour, "time for the whole run")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
}

func (o *trioOptions) addLoad(f *pflag.FlagSet) {
	f.IntVar(&o.clients, "clients", 64, "clients, each with a connection and a key of its own, spread over the members")
	f.IntVar(&o.size, "size", 512, "bytes of a value: endpoints as JSON")
	f.DurationVar(&o.lasting, "for", 10*time.Second, "how long a turn is measured")
}

func (o *trioOptions) addRate(f *pflag.FlagSet) {
	f.IntVar(&o.rate, "rate", 0, "writes a second, of all clients together; 0: as many as they can")
}

// ownOnly hides the flags of a benchmark that etcd has no part in.
func ownOnly(f *pflag.FlagSet) {
	for _, name := range []string{"servers", "etcd"} {
		f.Lookup(name).Hidden = true
	}
}

// besideMe is the path of a program in this one's folder, its name where it is
// not there.
func besideMe(name string) string {
	if me, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(me), name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return name
}

func (o *trioOptions) check() error {
	if err := checkNames(o.servers, []string{trio.Etcd, trio.ECP}); err != nil {
		return err
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{{"rounds", o.rounds, 1}, {"clients", o.clients, 1}, {"size", o.size, 0}, {"rate", o.rate, 0}, {"busy", o.busy, 0}} {
		if n.value < n.least {
			return misuse("--%s is %d; it is at least %d", n.flag, n.value, n.least)
		}
	}
	if o.output != "table" && o.output != "json" {
		return misuse("--output is %q; it is table or json", o.output)
	}
	if o.timeout <= 0 || o.lasting <= 0 {
		return misuse("--timeout and --for must be positive")
	}
	for _, name := range o.servers {
		if _, err := o.program(name); err != nil {
			return misuse("%v; --servers says what to measure", err)
		}
	}
	return nil
}

// program is the path of what a cluster runs.
func (o *trioOptions) program(kind string) (string, error) {
	name := o.ecp
	if kind == trio.Etcd {
		name = o.etcd
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no program %s", name)
	}
	return filepath.Abs(path)
}

// Trio is what clusters of three were measured with.
type Trio struct {
	Clients int     `json:"clients,omitempty"`
	Size    int     `json:"size,omitempty"` // bytes of a value
	Seconds float64 `json:"seconds,omitempty"`
	Offered int     `json:"offered,omitempty"` // writes a second
	Busy    int     `json:"busy,omitempty"`    // processes beside the cluster
	Proxies int     `json:"proxies,omitempty"`
	Content int     `json:"resources,omitempty"`
	Kills   int     `json:"kills,omitempty"`
	Orderly bool    `json:"orderly,omitempty"` // SIGTERM
	// Subscribers have streams of events, All of them of every event.
	Subscribers int `json:"subscribers,omitempty"`
	All         int `json:"all,omitempty"`
	// SyncMicros is what a write of 4 KiB with its fdatasync takes.
	SyncMicros float64 `json:"sync_us"`
}

func (t *Trio) head(text *strings.Builder) {
	text.WriteString(": three members on loopback")
	for _, part := range []struct {
		there  bool
		format string
		value  any
	}{
		{t.Clients > 0, ", %d clients", t.Clients},
		{t.Size > 0, ", values of %d bytes", t.Size},
		{t.Offered > 0, ", %d writes a second", t.Offered},
		{t.Busy > 0, ", %d busy processes beside", t.Busy},
		{t.Proxies > 0, ", %d proxies", t.Proxies},
		{t.Content > 0, ", %d resources", t.Content},
		{t.Kills > 0 && !t.Orderly, ", %d kills (-9) of the leader", t.Kills},
		{t.Kills > 0 && t.Orderly, ", %d stops (SIGTERM) of the leader", t.Kills},
		{t.Subscribers > 0, ", %d subscribers", t.Subscribers},
		{t.All > 0, ", %d of them to all", t.All},
		{t.Seconds > 0, ", %.0f s", t.Seconds},
		{true, ", an fdatasync of 4 KiB takes %.0f us", t.SyncMicros},
	} {
		if part.there {
			fmt.Fprintf(text, part.format, part.value)
		}
	}
}

// trioRun is a run under way.
type trioRun struct {
	*trioOptions
	app *app
	dir string
	// baseline is the server that ratios are to.
	baseline string
	result   *result
}

// clusters runs a benchmark of whole clusters: f measures, with the result's
// head ready.
func (a *app) clusters(ctx context.Context, benchmark string, o *trioOptions, setup Trio, f func(context.Context, *trioRun) error) (err error) {
	a.started = true
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errTimeout)
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "ecpbench-")
	if err != nil {
		return fmt.Errorf("make a folder for the clusters: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sync, err := trio.SyncTime(dir)
	if err != nil {
		return fmt.Errorf("measure an fdatasync: %w", err)
	}
	setup.SyncMicros = micros(sync)
	r := &trioRun{trioOptions: o, app: a, dir: dir, baseline: trio.Etcd, result: &result{
		Benchmark: benchmark, Trio: &setup, Rounds: o.rounds, CPUs: runtime.NumCPU(), Go: runtime.Version(),
	}}
	if err := f(ctx, r); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return err
	}
	r.result.compare(r.baseline)
	return r.result.write(a.out, o.output)
}

// rounds gives each cluster its turns and returns what they brought.
func rounds[S any](ctx context.Context, r *trioRun, turn func(context.Context, *trio.Cluster) (S, error), glance func(S) string) (map[string][]S, error) {
	return inTurns(r.app, r.rounds, r.servers, func(kind string) (S, error) {
		return withCluster(ctx, r, kind, trio.Options{}, turn)
	}, glance)
}

// withCluster runs f on a new cluster; of the options those are given that are
// not the same for all.
func withCluster[S any](
	ctx context.Context, r *trioRun, kind string, o trio.Options, f func(context.Context, *trio.Cluster) (S, error),
) (s S, err error) {
	bin, err := r.program(kind)
	if err != nil {
		return s, err
	}
	dir, err := os.MkdirTemp(r.dir, kind+"-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.Kind, o.Bin, o.Dir, o.Args = kind, bin, dir, r.ecpArgs
	c, err := trio.New(o)
	if err != nil {
		return s, err
	}
	starting, cancel := context.WithTimeout(ctx, trio.Patience)
	defer cancel()
	if err := c.Start(starting); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	return f(ctx, c)
}

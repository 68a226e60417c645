package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ecpbench runs a command line and returns what it wrote.
func ecpbench(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != wantCode {
		t.Fatalf("ecpbench %s: exit code %d, want %d; it said: %s", strings.Join(args, " "), code, wantCode, &errs)
	}
	return out.String(), errs.String()
}

// small are the flags of a run that is only to be right.
func small(command string, p protocol) []string {
	return []string{
		command, "--protocol", string(p), "--streams", "50", "--rounds", "2", "--clusters", "20",
		"--settle", "20ms", "--timeout", "1m", "-o", "json",
	}
}

func measured(t *testing.T, args ...string) *result {
	t.Helper()
	stdout, _ := ecpbench(t, exitDone, args...)
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	r := &result{}
	if err := d.Decode(r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if d.More() {
		t.Fatalf("more than one object: %s", stdout)
	}
	return r
}

func TestFanout(t *testing.T) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		t.Run(string(p), func(t *testing.T) {
			r := measured(t, append(small("fanout", p), "--changes", "20")...)
			checkResult(t, r, "fanout", p, 8)
			if f := r.Servers[2].figure("Apply, a change being pushed, p99"); f == nil || f.Value <= 0 {
				t.Errorf("applies: %+v", f)
			}
			for _, o := range r.Servers {
				if want := uint64(2 * 20 * 50); o.Updates != want || o.Extra != 0 {
					t.Errorf("%s: %d updates and %d responses beyond them, want %d and none", o.Server, o.Updates, o.Extra, want)
				}
			}
		})
	}
}

func TestFleets(t *testing.T) {
	r := measured(t, append(small("fanout", delta), "--changes", "20", "--fleets", "10", "--clusters", "3", "--distinct", "--rounds", "1")...)
	if r.Fleets != 10 || !r.Distinct {
		t.Errorf("head of the result: %+v", *r)
	}
	for _, o := range r.Servers {
		if want := uint64(20 * 5); o.Updates != want || o.Extra != 0 {
			t.Errorf("%s: %d updates and %d responses beyond them, want %d and none", o.Server, o.Updates, o.Extra, want)
		}
		if f := o.figure("time until a fleet has acknowledged it, p99"); f == nil || f.Value <= 0 {
			t.Errorf("%s: %+v", o.Server, f)
		}
	}
}

func TestRate(t *testing.T) {
	r := measured(t, append(small("fanout", delta), "--rate", "200", "--for", "600ms", "--rounds", "1", "--servers", "ecp")...)
	if r.Changes != 120 || r.Rate != 200 || len(r.Servers[0].Figures) != 9 {
		t.Errorf("result: %+v", *r)
	}
	for _, f := range r.Servers[0].Figures {
		if f.Value <= 0 && f.Name != "from the last write to the last proxy" && !strings.HasPrefix(f.Name, "server CPU") {
			t.Errorf("%s is %v %s", f.Name, f.Value, f.Unit)
		}
	}
}

func TestAgain(t *testing.T) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		r := measured(t, append(small("connect", p), "--again", "--rounds", "1", "--servers", "b0,ecp")...)
		for _, o := range r.Servers {
			resent := o.figure("again: resources sent per proxy")
			if resent == nil || resent.Value != 0 || len(resent.Rounds) != 1 {
				t.Errorf("%s %s: %+v", o.Server, p, resent)
			}
			if f := o.figure("again: time until all are settled"); f == nil || f.Value <= 0 {
				t.Errorf("%s %s: %+v", o.Server, p, f)
			}
		}
	}
}

func TestDrain(t *testing.T) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		r := measured(t, append(small("connect", p), "--drain", "--rounds", "1", "--servers", "b0,ecp")...)
		for _, o := range r.Servers {
			if f := o.figure("drain: resources sent per proxy"); f == nil || f.Value != 0 || len(f.Rounds) != 1 {
				t.Errorf("%s %s: %+v", o.Server, p, f)
			}
			if f := o.figure("drain: a proxy without a settled stream, p50"); f == nil || f.Value <= 0 {
				t.Errorf("%s %s: %+v", o.Server, p, f)
			}
		}
	}
}

func TestConnect(t *testing.T) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		t.Run(string(p), func(t *testing.T) {
			r := measured(t, small("connect", p)...)
			checkResult(t, r, "connect", p, 6)
			for _, o := range r.Servers {
				if o.Updates != 0 {
					t.Errorf("%s: %d updates", o.Server, o.Updates)
				}
			}
		})
	}
}

func checkResult(t *testing.T, r *result, benchmark string, p protocol, figures int) {
	t.Helper()
	if r.Benchmark != benchmark || r.Protocol != p || r.Streams != 50 || r.Rounds != 2 || r.Clusters != 20 || r.Baseline != "b0" {
		t.Errorf("head of the result: %+v", *r)
	}
	var names []string
	for _, o := range r.Servers {
		names = append(names, o.Server)
		compared := slices.DeleteFunc(slices.Clone(o.Figures), func(f figure) bool { return strings.HasPrefix(f.Name, "Apply") })
		if len(compared) != figures {
			t.Errorf("%s has %d figures, want %d", o.Server, len(compared), figures)
		}
		for _, f := range compared {
			checkFigure(t, o.Server, f)
		}
	}
	if !slices.Equal(names, serverNames()) {
		t.Errorf("servers %v", names)
	}
}

func checkFigure(t *testing.T, server string, f figure) {
	t.Helper()
	// A small run may use less CPU than /proc can tell.
	least := math.SmallestNonzeroFloat64
	if strings.Contains(f.Name, "CPU") && f.Name != "server CPU per update" {
		least = 0
	}
	for _, v := range append(f.Rounds, f.Value) {
		if v < least || math.IsInf(v, 0) {
			t.Errorf("%s: %s is %v %s", server, f.Name, f.Rounds, f.Unit)
		}
	}
	if f.Ratio == nil && f.Value > 0 && least > 0 {
		t.Errorf("%s: %s has no ratio", server, f.Name)
	}
	if server == "b0" && f.Ratio != nil && *f.Ratio != 1 {
		t.Errorf("%s is %v times itself", f.Name, *f.Ratio)
	}
}

func TestTableAndProfiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "profiles")
	stdout, stderr := ecpbench(t, exitDone, "connect", "--streams", "5", "--rounds", "1", "--clusters", "2",
		"--settle", "0s", "--servers", "ecp,b0", "--profile", dir)
	for _, want := range []string{"connect, delta: 5 streams", "ecp/b0", "memory per idle proxy"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the table has no %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "b1") {
		t.Errorf("b1 was not asked for:\n%s", stdout)
	}
	if !strings.Contains(stderr, "round 1/1 ecp: connected in") {
		t.Errorf("no progress: %s", stderr)
	}
	for _, name := range []string{"b0.connect", "b0.heap", "ecp.connect", "ecp.heap"} {
		if info, err := os.Stat(filepath.Join(dir, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

// TestTimeout has a run cut off in the middle: it says so, and no server
// process is left.
func TestTimeout(t *testing.T) {
	_, stderr := ecpbench(t, exitTimeout, "fanout", "--streams", "20", "--changes", "5000", "--rounds", "1",
		"--settle", "0s", "--timeout", "1s")
	if !strings.Contains(stderr, errTimeout.Error()) {
		t.Errorf("it said: %s", stderr)
	}
	noChildren(t)
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	interrupted, stop := context.WithCancel(context.Background())
	context.AfterFunc(ctx, stop)
	var out, errs bytes.Buffer
	code := run(interrupted, []string{"connect", "--streams", "20", "--rounds", "1000", "--settle", "0s"},
		strings.NewReader(""), &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "ecpbench: interrupted") || out.Len() != 0 {
		t.Errorf("exit code %d, output %q, it said: %s", code, &out, &errs)
	}
	noChildren(t)
}

// noChildren fails the test when a process started here is still there.
func noChildren(t *testing.T) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", os.Getpid()))
	if err != nil || len(lists) == 0 {
		t.Fatalf("lists of children: %v", err)
	}
	for _, list := range lists {
		if children, err := os.ReadFile(list); err == nil && len(bytes.TrimSpace(children)) > 0 {
			t.Errorf("processes left: %s", children)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"nothing"},
		{"fanout", "more"},
		{"fanout", "--streams", "0"},
		{"fanout", "--streams", "100000000"},
		{"fanout", "--rounds", "0"},
		{"fanout", "--changes", "0"},
		{"fanout", "--changes", "1000000"},
		{"fanout", "--fleets", "0"},
		{"fanout", "--fleets", "2", "--streams", "1"},
		{"fanout", "--rate", "-1"},
		{"fanout", "--rate", "10", "--fleets", "2"},
		{"fanout", "--again"},
		{"connect", "--again", "--fleets", "2"},
		{"connect", "--again", "--drain"},
		{"connect", "--drain", "--fleets", "2"},
		{"fanout", "--protocol", "rest"},
		{"fanout", "--clusters", "0"},
		{"fanout", "--endpoints", "251"},
		{"connect", "--changes", "1"},
		{"connect", "--parallel", "0"},
		{"connect", "--servers", ""},
		{"connect", "--servers", "b0,b2"},
		{"connect", "--servers", "b0,b0"},
		{"connect", "--timeout", "0s"},
		{"connect", "-o", "xml"},
		{"server"},
		{"server", "b2"},
		{"server", "b0", "--protocol", "rest"},
	} {
		if stdout, stderr := ecpbench(t, exitUsage, args...); stdout != "" || !strings.HasPrefix(stderr, "ecpbench: ") {
			t.Errorf("ecpbench %v wrote %q and said %q", args, stdout, stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"fanout", "connect"} {
		stdout, _ := ecpbench(t, exitDone, command, "--help")
		for _, want := range []string{"Consensus, disk and the REST API are not part of it", "Examples:", "--streams"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("the help of %s has no %q", command, want)
			}
		}
		if strings.Contains(stdout, "--profiled") {
			t.Errorf("the help of %s shows what is internal", command)
		}
	}
}

// In a storm everybody is configured, and the bystanders get their changes.
func TestStorm(t *testing.T) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		t.Run(string(p), func(t *testing.T) {
			r := measured(t, append(small("connect", p), "--storm")...)
			if len(r.Servers) != len(serverNames()) {
				t.Fatalf("servers %+v", r.Servers)
			}
			for _, o := range r.Servers {
				if o.figure("change of another fleet meanwhile, to ACK, max") == nil {
					t.Errorf("%s has no figure of the other fleet", o.Server)
				}
			}
		})
	}
	ecpbench(t, exitUsage, "connect", "--storm", "--again")
}

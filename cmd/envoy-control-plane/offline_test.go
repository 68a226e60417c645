package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/deploy/local"
)

// program is the real binary.
type program struct {
	t    *testing.T
	path string
}

func build(t *testing.T) program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy-control-plane")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program{t, path}
}

// run ends with an exit code and returns what was said on both.
func (p program) run(code int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command(p.path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		p.t.Fatal(err)
	}
	if got != code {
		p.t.Fatalf("%v: exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// says fails unless all parts are in a text.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// nodes returns the options of nodes that join each other.
func (p program) nodes(count int) []local.NodeOptions {
	p.t.Helper()
	ports, err := local.FreePorts(5 * count)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []local.NodeOptions
	var join []string
	for i := range count {
		at := ports[5*i:]
		o := local.NodeOptions{
			Bin: p.path, ID: fmt.Sprintf("n%d", i+1), Dir: p.t.TempDir(), Expect: count,
			Ports: local.Ports{HTTP: at[0], Metrics: at[1], XDS: at[2], Raft: at[3], Gossip: at[4]},
		}
		join = append(join, fmt.Sprintf("127.0.0.1:%d", o.Ports.Gossip))
		out = append(out, o)
	}
	for i := range out {
		if out[i].Join = join; count == 1 {
			out[i].Join = nil
		}
	}
	return out
}

func (p program) start(o local.NodeOptions) *local.Node {
	p.t.Helper()
	n, err := local.StartNode(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(n.Kill)
	return n
}

func (p program) ready(nodes ...*local.Node) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for _, n := range nodes {
		if err := n.WaitReady(ctx); err != nil {
			p.t.Fatal(err)
		}
	}
}

func putTenant(t *testing.T, n *local.Node, name string) {
	t.Helper()
	request(t, http.MethodPut, n.URL()+"/api/v1/tenants/"+name)
}

func request(t *testing.T, method, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}

// The way of an operator whose majority is gone.
func TestDoctorAndRecover(t *testing.T) {
	p := build(t)
	options := p.nodes(3)
	var nodes []*local.Node
	for _, o := range options {
		nodes = append(nodes, p.start(o))
	}
	p.ready(nodes...)
	putTenant(t, nodes[0], "before")
	data := func(i int) string { return filepath.Join(options[i].Dir, "data") }
	_, stderr := p.run(1, "doctor", "--data-dir", data(0))
	says(t, stderr, "is in use by a running node, stop it first")
	for _, n := range nodes {
		n.Kill()
	}

	stdout, _ := p.run(0, "doctor", "--data-dir", data(0), "--data-dir", data(1), "--data-dir", data(2))
	says(t, stdout, "n1, incarnation", "n3, incarnation", "data ends at", "voter", "disk free", "damage", "newest data")
	stdout, _ = p.run(0, "doctor", "--data-dir", data(0), "-o", "json")
	var said diagnosis
	if err := json.Unmarshal([]byte(stdout), &said); err != nil || len(said.Directories) != 1 {
		t.Fatalf("%v\n%s", err, stdout)
	}
	one := said.Directories[0]
	if !one.Sound || one.NodeID != "n1" || one.Incarnation == "" || one.ClusterID == "" || one.Epoch == "" || one.Term == 0 ||
		one.LastIndex == 0 || one.Committed == 0 || len(one.Members) != 3 || one.FreeBytes == nil {
		t.Errorf("%s", stdout)
	}

	self := fmt.Sprintf("n1=127.0.0.1:%d", options[0].Ports.Raft)
	stdout, _ = p.run(0, "recover", "--data-dir", data(0), "--voters", self)
	says(t, stdout, "n1/"+one.Incarnation, "epoch", one.Epoch+" becomes", fmt.Sprintf("index %d", one.LastIndex), "old member", "new member", "Nothing was changed", "--yes")
	after, _ := p.run(0, "doctor", "--data-dir", data(0), "-o", "json")
	var again diagnosis
	if err := json.Unmarshal([]byte(after), &again); err != nil || len(again.Directories[0].Recoveries) > 0 || again.Directories[0].LastIndex != one.LastIndex {
		t.Errorf("the dry run changed something: %v\n%s", err, after)
	}
	stdout, _ = p.run(0, "recover", "--data-dir", data(0), "--voters", self, "--yes")
	says(t, stdout, "recovered: ", "aside")

	_, stderr = p.run(1, "recover", "--data-dir", data(1), "--voters", "n1=127.0.0.1:1")
	says(t, stderr, "n1/<incarnation>")
	stdout, _ = p.run(0, "doctor", "--data-dir", data(0), "--data-dir", data(1))
	says(t, stdout, "recovered", "none: ", "different clusters or recoveries")

	first := p.start(options[0])
	p.ready(first)
	request(t, http.MethodGet, first.URL()+"/api/v1/tenants/before")
	lost := p.start(options[1])
	waitFor(t, "the lost node says what to do", func() bool { return strings.Contains(readyText(t, lost), "must be moved aside") })
	lost.Kill()
	options[1].Dir = t.TempDir()
	fresh := p.start(options[1])
	p.ready(fresh)
	putTenant(t, fresh, "after")
	c, err := client.New(client.Options{Servers: []string{first.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	report, err := c.Cluster(t.Context())
	if err != nil || len(report.Nodes) != 2 || report.ID != one.ClusterID || report.Epoch == one.Epoch {
		t.Errorf("%+v, %v", report, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// readyText is what a node answers on /ready.
func readyText(t *testing.T, n *local.Node) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL()+"/ready", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var text strings.Builder
	if err := resp.Write(&text); err != nil {
		return ""
	}
	return text.String()
}

func TestDoctorNamesDamage(t *testing.T) {
	p := build(t)
	o := p.nodes(1)[0]
	n := p.start(o)
	p.ready(n)
	putTenant(t, n, "some-very-long-name-of-a-tenant")
	n.Kill()
	dir := filepath.Join(o.Dir, "data")
	path := filepath.Join(dir, "raft.db")
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(strings.ReplaceAll(string(body), "some-very-long", "some-other-one"))
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := p.run(1, "doctor", "--data-dir", dir)
	says(t, stdout, "DAMAGE", path+", index ", ", byte ", "its checksum does not match", "move the data directory aside")
	says(t, stderr, dir+" is damaged")
	stdout, _ = p.run(1, "doctor", "--data-dir", dir, "-o", "json")
	var said diagnosis
	if err := json.Unmarshal([]byte(stdout), &said); err != nil || len(said.Directories[0].Damage) != 1 || said.Directories[0].Damage[0].Offset == 0 {
		t.Errorf("%v\n%s", err, stdout)
	}
	_, stderr = p.run(1, "recover", "--data-dir", dir, "--voters", "n1=127.0.0.1:7000", "--yes")
	says(t, stderr, "damaged, see doctor")
	if now, err := os.ReadFile(path); err != nil || string(now) != string(damaged) {
		t.Error("the damaged file was changed")
	}
}

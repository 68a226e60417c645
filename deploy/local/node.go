package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Ports of a node.
type Ports struct{ HTTP, Metrics, XDS, Raft, Gossip int }

// PortsAt returns the default ports, each plus an offset.
func PortsAt(offset int) Ports {
	return Ports{HTTP: 8080 + offset, Metrics: 9090 + offset, XDS: 18000 + offset, Raft: 7000 + offset, Gossip: 7946 + offset}
}

// NodeOptions say how a node of the control plane runs.
type NodeOptions struct {
	// Bin is the program envoy-control-plane.
	Bin string
	ID  string
	// Host is the IP that it listens at; empty: 127.0.0.1.
	Host string
	// Dir gets the data and the log; it is made when absent.
	Dir   string
	Ports Ports
	// Join are the gossip addresses of all nodes of the cluster, Expect how
	// many of them found it; with neither the node is a cluster of its own.
	Join   []string
	Expect int
	// DatabaseURL of the archive; empty: none.
	DatabaseURL string
	// Args and Env are added last, so that they win.
	Args, Env []string
	// Under is a program with its arguments that runs the node; nil: none.
	Under []string
}

// Node is a running node.
type Node struct {
	*Process
	ID    string
	Host  string
	Ports Ports
}

// StartNode starts a node and returns before it is ready. It ends with Stop,
// or with this process.
func StartNode(o NodeOptions) (*Node, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start node %s: %w", o.ID, err)
	}
	args := []string{
		"serve", "--node-id", o.ID, "--data-dir", filepath.Join(o.Dir, "data"), "--bind", o.Host,
		"--http-port", strconv.Itoa(o.Ports.HTTP), "--metrics-port", strconv.Itoa(o.Ports.Metrics),
		"--xds-port", strconv.Itoa(o.Ports.XDS), "--raft-port", strconv.Itoa(o.Ports.Raft),
		"--gossip-port", strconv.Itoa(o.Ports.Gossip),
	}
	if len(o.Join) > 0 {
		args = append(args, "--join", strings.Join(o.Join, ","), "--bootstrap-expect", strconv.Itoa(o.Expect))
	}
	c := command{
		path: o.Bin, args: append(args, o.Args...), stop: "TERM",
		env: append([]string{"DATABASE_URL=" + o.DatabaseURL}, o.Env...),
		log: filepath.Join(o.Dir, "node.log"),
	}
	process, err := startProcess(c.under(o.Under))
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", o.ID, err)
	}
	return &Node{Process: process, ID: o.ID, Host: o.Host, Ports: o.Ports}, nil
}

// URL is where its REST API is.
func (n *Node) URL() string { return "http://" + net.JoinHostPort(n.Host, strconv.Itoa(n.Ports.HTTP)) }

// XDS is the host and port that Envoys connect to.
func (n *Node) XDS() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Ports.XDS)) }

// WaitReady returns when the node says that it serves, and fails when it has
// ended or ctx has.
func (n *Node) WaitReady(ctx context.Context) error {
	last := "it does not listen yet"
	for {
		ok, said := ready(ctx, n.URL()+"/ready")
		if ok {
			return nil
		}
		if said != "" {
			last = said
		}
		select {
		case <-n.Done():
			return fmt.Errorf("node %s has ended, its log ends with:\n%s", n.ID, n.logTail())
		case <-ctx.Done():
			return fmt.Errorf("node %s is not ready: %w: %s", n.ID, context.Cause(ctx), last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func ready(ctx context.Context, url string) (ok bool, said string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, ""
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	return resp.StatusCode == http.StatusOK, strings.TrimSpace(string(body)) + errorText(errors.Join(err, resp.Body.Close()))
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

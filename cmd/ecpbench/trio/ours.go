package trio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// ours are clusters of this repository.
type ours struct{}

func (ours) start(c *Cluster, i int, under []string) (*local.Process, error) {
	var join []string
	for _, p := range c.ports {
		join = append(join, local.Loopback(p.Gossip))
	}
	n, err := local.StartNode(local.NodeOptions{
		Bin: c.o.Bin, ID: c.id(i), Dir: c.dir(i), Ports: c.ports[i], Join: join, Expect: Members,
		DatabaseURL: c.o.DatabaseURL,
		// Nothing of the caller's environment makes one run unlike another.
		Env:  []string{"LOG_LEVEL=warn", "JWT_SECRET=", "JWT_SECRET_FILE="},
		Args: slices.Concat([]string{"--advertise", "127.0.0.1"}, c.o.Args, c.seed(i)), Under: under,
	})
	if err != nil {
		return nil, err
	}
	return n.Process, nil
}

// seed are the flags of the one member that has the seed.
func (c *Cluster) seed(i int) []string {
	if c.o.Seed == "" || i != 0 {
		return nil
	}
	return []string{"--restore", c.o.Seed, "--from-cluster", c.o.SeedCluster}
}

func (ours) address(c *Cluster, i int) string { return local.Loopback(c.ports[i].HTTP) }

func (ours) metrics(c *Cluster, i int) string {
	return "http://" + local.Loopback(c.ports[i].Metrics) + "/metrics"
}

func (ours) leads() string   { return "ecp_raft_leader" }
func (ours) changes() string { return "ecp_raft_term" }

func (o ours) ready(ctx context.Context, c *Cluster, i int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.address(c, i)+"/ready", http.NoBody)
	if err != nil {
		return err
	}
	return do(http.DefaultClient, req)
}

func (ours) writer(key string, addresses [Members]string) Writer {
	return &restWriter{
		client:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true}},
		addresses: addresses, path: "/api/v1/tenants/default/endpoints/" + key,
	}
}

// restWriter writes endpoints over REST.
type restWriter struct {
	client    *http.Client
	addresses [Members]string
	path      string
}

func (w *restWriter) Put(ctx context.Context, member int, value []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+w.addresses[member]+w.path, bytes.NewReader(value))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return do(w.client, req)
}

func (w *restWriter) Get(ctx context.Context, member int, strong bool) error {
	path := w.path
	if strong {
		path += "?consistency=strong"
	}
	return w.get(ctx, member, path)
}

func (w *restWriter) get(ctx context.Context, member int, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addresses[member]+path, http.NoBody)
	if err != nil {
		return err
	}
	return do(w.client, req)
}

// GetPath reads a path of the REST API; the writer must be of a cluster of ours.
func GetPath(ctx context.Context, w Writer, member int, path string) error {
	rest, ok := w.(*restWriter)
	if !ok {
		return fmt.Errorf("%T has no REST API", w)
	}
	return rest.get(ctx, member, path)
}

func (w *restWriter) Close() { w.client.CloseIdleConnections() }

// do sends a request and wants a 2xx.
func do(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	err = errors.Join(err, resp.Body.Close())
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return err
}

// Endpoints is a ClusterLoadAssignment as JSON, of a size in bytes where that is
// possible; n decides its content.
func Endpoints(key string, size, n int) []byte {
	const form = `{"cluster_name":"%s","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":` +
		`{"address":"10.0.0.1","port_value":%d}},"hostname":"%s"}}]}]}`
	port := 1 + n%65535
	spare := size - len(fmt.Sprintf(form, key, port, ""))
	return fmt.Appendf(nil, form, key, port, strings.Repeat("h", max(1, spare)))
}

// Patience is how long a single request may take.
const Patience = 30 * time.Second

package nginx_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/org/envoy-control-plane/deploy/local"
)

const api = "https://" + serverName + "/api/v1"

func startCluster(t *testing.T) *local.Cluster {
	t.Helper()
	return local.TestCluster(t, local.ClusterOptions{Bin: nodeBinary, Nodes: 3, Dir: t.TempDir()})
}

// send returns the status, the headers and the body of an answer.
func send(t *testing.T, c *http.Client, method, url, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(raw)
}

func putFleet(t *testing.T, c *http.Client, name string) {
	t.Helper()
	if status, _, body := send(t, c, http.MethodPut, api+"/tenants/default/fleets/"+name, `{}`); status/100 != 2 {
		t.Fatalf("PUT: %d %s", status, body)
	}
}

// TestREST: over TLS 1.3 alone, by any node, also when one is gone.
func TestREST(t *testing.T) {
	cluster := startCluster(t)
	f := startFront(t, cluster, nil)
	c := f.client()
	putFleet(t, c, "edge")
	status, header, body := send(t, c, http.MethodGet, api+"/tenants/default/fleets/edge?consistency=strong", "")
	if status != http.StatusOK || !strings.Contains(body, `"edge"`) || header.Get("Ecp-Index") == "" || header.Get("Strict-Transport-Security") == "" {
		t.Errorf("GET: %d %v %s", status, header, body)
	}
	if status, header, _ := send(t, c, http.MethodGet, "http://"+serverName+"/api/v1/cluster?x=1", ""); status != http.StatusMovedPermanently ||
		header.Get("Location") != api+"/cluster?x=1" {
		t.Errorf("plain HTTP: %d to %s", status, header.Get("Location"))
	}
	old := tls.Config{RootCAs: f.roots, ServerName: serverName, MaxVersion: tls.VersionTLS12}
	if conn, err := tls.Dial("tcp", f.secure, &old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v, %v", conn, err)
	}
	for path, want := range map[string]int{"/health": 200, "/ready": 200, "/version": 200, "/metrics": 404, "/": 404} {
		if status, _, body := send(t, c, http.MethodGet, "https://"+serverName+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, _ := send(t, c, http.MethodPut, api+"/tenants/default/endpoints/big", strings.Repeat(" ", 11<<20)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("11 MB: %d", status)
	}
	backup, _, _ := send(t, c, http.MethodGet, api+"/cluster/snapshot", "")
	if backup != http.StatusOK {
		t.Errorf("backup: %d", backup)
	}

	cluster.Nodes[0].Kill()
	for i := range 20 {
		if status, _, body := send(t, c, http.MethodGet, api+"/tenants/default/fleets", ""); status != http.StatusOK {
			t.Fatalf("with a node gone, request %d: %d %s", i, status, body)
		}
	}
}

// TestRateLimit: what is too much gets 429 with Retry-After, and what comes
// after that time passes.
func TestRateLimit(t *testing.T) {
	f := startFront(t, startCluster(t), nil)
	c := f.client()
	var group sync.WaitGroup
	var mu sync.Mutex
	counts := map[int]int{}
	refused := http.Header{}
	var problem struct {
		Status int
		Code   string
	}
	for range 20 {
		group.Go(func() {
			for range 30 {
				status, header, body := send(t, c, http.MethodGet, api+"/tenants/default", "")
				mu.Lock()
				if counts[status]++; status == http.StatusTooManyRequests && counts[status] == 1 {
					refused = header
					if err := json.Unmarshal([]byte(body), &problem); err != nil {
						t.Errorf("%s: %v", body, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	group.Wait()
	most := 101 + int(100*time.Since(began).Seconds()) + 1
	if ok := counts[http.StatusOK]; ok < 100 || ok > most || counts[http.StatusTooManyRequests] != 600-ok {
		t.Errorf("of 600 requests: %v, at most %d may pass", counts, most)
	}
	if refused.Get("Retry-After") != "1" || refused.Get("Content-Type") != "application/problem+json" ||
		problem.Status != http.StatusTooManyRequests || problem.Code != "rate_limited" {
		t.Errorf("refused with %v, %+v", refused, problem)
	}
	time.Sleep(time.Second)
	if status, _, _ := send(t, c, http.MethodGet, api+"/tenants/default", ""); status != http.StatusOK {
		t.Errorf("a second later: %d", status)
	}
}

// TestEvents: both kinds of event streams deliver through nginx at once, and
// outlive its timeouts.
func TestEvents(t *testing.T) {
	f := startFront(t, startCluster(t), shortened)
	c := f.client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c.Timeout = 0

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/tenants/default/events?since=0", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)

	conn, _, err := websocket.Dial( //nolint:bodyclose // the connection's own
		ctx, "wss://"+serverName+"/api/v1/ws?tenant=default&since=0", &websocket.DialOptions{
			HTTPClient: c, HTTPHeader: http.Header{"Origin": {"https://" + serverName}},
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()

	// next returns the next event: between them come positions.
	next := func() string {
		for {
			_, message, err := conn.Read(ctx)
			if err != nil {
				t.Fatal("WebSocket:", err)
			}
			if !strings.HasPrefix(string(message), `{"position"`) {
				return string(message)
			}
		}
	}
	for i := range 2 {
		time.Sleep(time.Duration(i) * silence) // before the second
		name := fmt.Sprintf("fleet-%d", i)
		began := time.Now()
		putFleet(t, c, name)
		for lines.Scan() && !strings.Contains(lines.Text(), name) {
		}
		if lines.Err() != nil || !strings.Contains(lines.Text(), name) {
			t.Fatalf("server-sent: %q, %v", lines.Text(), lines.Err())
		}
		if event := next(); !strings.Contains(event, name) {
			t.Fatalf("WebSocket: %s", event)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("events took %s", took)
		}
	}
}

package nginx_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	clusterType = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	// silence is longer than each timeout that shortened leaves.
	silence = 3 * time.Second
)

// shortened makes every timeout a second that the configuration does not set itself.
func shortened(config string) string {
	return strings.Replace(config, "http {", `http {
    client_body_timeout 1s; client_header_timeout 1s; send_timeout 1s; keepalive_timeout 1s; keepalive_time 1s;
    grpc_read_timeout 1s; grpc_send_timeout 1s; proxy_read_timeout 1s; proxy_send_timeout 1s;`, 1)
}

// cutting is shortened without what keeps xDS streams up.
func cutting(config string) string {
	var kept []string
	for line := range strings.Lines(shortened(config)) {
		if !strings.Contains(line, " 365d;") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// watch opens a stream and takes the first response.
func watch(t *testing.T, address string) discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "p-" + address, Cluster: "edge"}, TypeUrl: clusterType})
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	return s
}

// next takes a response and accepts it.
func next(t *testing.T, s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient) {
	t.Helper()
	r, err := s.Recv()
	if err == nil {
		err = s.Send(&discoveryv3.DiscoveryRequest{TypeUrl: clusterType, VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, c *http.Client, timeout string) {
	t.Helper()
	status, _, body := send(t, c, http.MethodPost, api+"/tenants/default/fleets/edge/changes",
		`{"upsert": [{"@type": "`+clusterType+`", "name": "web", "connect_timeout": "`+timeout+`"}]}`)
	if status != http.StatusCreated {
		t.Fatalf("change: %d %s", status, body)
	}
}

// TestIdleStreamsStayUp: a stream on which nothing moves for longer than any
// timeout is there when something does. Without what the configuration says
// about xDS, it is not.
func TestIdleStreamsStayUp(t *testing.T) {
	cluster := startCluster(t)
	good, bad := startFront(t, cluster, shortened), startFront(t, cluster, cutting)
	c := good.client()
	putFleet(t, c, "edge")
	change(t, c, "1s")
	stays, goes := watch(t, good.xds), watch(t, bad.xds)
	time.Sleep(silence)
	change(t, c, "2s")
	next(t, stays)
	if _, err := goes.Recv(); err == nil {
		t.Error("the stream through one-second timeouts is still there: this test shows nothing")
	}
}

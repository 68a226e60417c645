package monitoring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/local"
)

// load is what goes on in a cluster while it is watched: writes, reads, event
// streams, one of which nobody reads, proxies, one of which rejects.
type load struct {
	t       *testing.T
	cluster *local.Cluster
	group   sync.WaitGroup
}

// startLoad goes on until the test ends.
func startLoad(t *testing.T, c *local.Cluster) {
	l := &load{t: t, cluster: c}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.group.Wait()
	})
	first := l.client(c.URLs()[0])
	if _, err := first.PutFleet(ctx, "edge", wire.FleetPut{}); err != nil {
		t.Fatal(err)
	}
	l.proxy(ctx, c.XDS()[0], "good", false)
	l.proxy(ctx, c.XDS()[1], "bad", true)
	l.muteSubscriber(ctx, c.URLs()[1])
	l.group.Go(func() { l.subscriber(ctx, c.URLs()[2]) })
	for i, url := range c.URLs() {
		l.group.Go(func() { l.write(ctx, l.client(url), i) })
	}
}

func (l *load) client(url string) *client.Client {
	c, err := client.New(client.Options{Servers: []string{url}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Close)
	return c
}

// write makes change sets with long messages, and reads. Refusals are part of
// it: the test turns the cluster read-only.
func (l *load) write(ctx context.Context, c *client.Client, name int) {
	message := strings.Repeat("x", 4096)
	for i := 0; ctx.Err() == nil; i++ {
		body := fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "c%d", "connect_timeout": "%ds"}`, name, 1+i%60)
		_, err := c.Change(ctx, "edge", wire.ChangeSet{Message: message, Upsert: []json.RawMessage{json.RawMessage(body)}}, client.ChangeOptions{})
		refused, ok := errors.AsType[*client.Error](err)
		if err != nil && ctx.Err() == nil && (!ok || refused.Code != wire.CodeReadOnly) {
			l.t.Errorf("write: %v", err)
			return
		}
		_, _ = c.GetFleet(ctx, "edge")    // fails only when the cluster ends
		_, _ = c.GetFleet(ctx, "nowhere") // 404
	}
}

// subscriber reads events as fast as they come.
func (l *load) subscriber(ctx context.Context, url string) {
	for _, err := range l.client(url).Events(ctx, client.EventQuery{}) {
		if err != nil {
			return
		}
	}
}

// muteSubscriber asks for events and never reads them.
func (l *load) muteSubscriber(ctx context.Context, url string) {
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/tenants/default/events?since=0", http.NoBody)
	if err == nil {
		err = req.Write(conn)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// proxy subscribes to clusters and accepts or rejects each response.
func (l *load) proxy(ctx context.Context, address, id string, rejects bool) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	const clusters = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	node := &corev3.Node{Id: id, Cluster: "edge"}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: clusters}); err != nil {
		l.t.Fatal(err)
	}
	l.group.Go(func() {
		for accepted := ""; ; {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			answer := &discoveryv3.DiscoveryRequest{TypeUrl: clusters, ResponseNonce: r.GetNonce(), VersionInfo: r.GetVersionInfo()}
			if rejects {
				answer.VersionInfo, answer.ErrorDetail = accepted, &statuspb.Status{Code: 13, Message: "it does not like it"}
			} else {
				accepted = r.GetVersionInfo()
			}
			time.Sleep(time.Millisecond)
			if stream.Send(answer) != nil {
				return
			}
		}
	})
}

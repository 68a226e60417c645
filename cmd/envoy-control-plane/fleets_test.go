package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestFleetMetrics(t *testing.T) {
	c := &lone{state: fsm.New()}
	propose := func(cmd *fsmpb.Command) {
		t.Helper()
		if _, err := c.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	propose(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "edge"}}})
	connected := func(id, fleet string, stream uint64) *fsmpb.ProxyReport {
		return &fsmpb.ProxyReport{
			Tenant: "default", Id: id, Stream: stream,
			Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: fleet}},
		}
	}
	propose(&fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "n", NodeStart: 1, Batch: 1, Reports: []*fsmpb.ProxyReport{
			connected("a", "edge", 1), connected("b", "edge", 2), connected("c", "edge", 3), connected("early", "none yet", 4),
			{Tenant: "default", Id: "b", Stream: 2, Report: &fsmpb.ProxyReport_Rejected_{
				Rejected: &fsmpb.ProxyReport_Rejected{TypeUrl: fsm.TypeListener, Detail: "bad"},
			}},
			{Tenant: "default", Id: "c", Stream: 3, Report: &fsmpb.ProxyReport_Disconnected_{Disconnected: &fsmpb.ProxyReport_Disconnected{}}},
		},
	}}})
	const want = `# HELP ecp_fleet_proxies Known proxies of a fleet by status; a rejected one is connected and has not accepted what it rejected.
# TYPE ecp_fleet_proxies gauge
ecp_fleet_proxies{fleet="",status="connected",tenant=""} 1
ecp_fleet_proxies{fleet="",status="disconnected",tenant=""} 0
ecp_fleet_proxies{fleet="",status="rejected",tenant=""} 0
ecp_fleet_proxies{fleet="edge",status="connected",tenant="default"} 1
ecp_fleet_proxies{fleet="edge",status="disconnected",tenant="default"} 1
ecp_fleet_proxies{fleet="edge",status="rejected",tenant="default"} 1
# HELP ecp_fleet_revision Current revision of a fleet.
# TYPE ecp_fleet_revision gauge
ecp_fleet_revision{fleet="edge",tenant="default"} 0
# HELP ecp_fleets Fleets of all tenants.
# TYPE ecp_fleets gauge
ecp_fleets 1
`
	if err := testutil.CollectAndCompare(newFleetCollector(c.State), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	for i := range maxFleetSeries {
		propose(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: fmt.Sprintf("f%d", i)}}})
	}
	if n := testutil.CollectAndCount(newFleetCollector(c.State), "ecp_fleet_revision"); n != maxFleetSeries {
		t.Errorf("%d fleets of %d have series", n, maxFleetSeries+1)
	}
}

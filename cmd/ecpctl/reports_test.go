package main

import (
	"encoding/json"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

func TestReports(t *testing.T) {
	s, _ := startAPI(t, "")
	ecpctl(t, s, "", "create", "fleet", "edge").exits(exitDone)
	for name, want := range map[string]string{
		"changes":      `alice  edge   revision_created  2 changes, revision 7, "why"`,
		"convergence":  "3/5     0         2         0        12ms  250ms  1.25s  p1 (1.25s)",
		"rejections":   "9      4        edge   listener  3-7",
		"proxies":      "envoy/1.40.0  12.2       1.0",
		"metrics":      "2026-11-01T00:00:00Z  edge   -      class=5  12       72     90     1.50",
		"availability": "2026-11  0001-01-01T00:00:00Z  edge   99.950 %      1999.0     1.0",
	} {
		t.Run(name, func(t *testing.T) {
			report := []string{"reports", name}
			if name == "metrics" {
				ecpctl(t, s, "", report...).exits(exitUsage)
				report = append(report, "cluster.upstream_rq_xx", "--labels", "class=5", "--group", "fleet", "--interval", "minute", "--proxy", "p1")
			}
			ecpctl(t, s, "", append(report, "--limit", "0")...).exits(exitDone).prints(want)
			ecpctl(t, s, "", append(report, "--limit", "1")...).exits(exitDone).prints(want).complains("there are more rows")
			r := ecpctl(t, s, "", append(report, "--limit", "2", "-o", "json")...).exits(exitDone)
			if got := decode[wire.Report[json.RawMessage]](r); len(got.Items) != 2 || got.Next != "" {
				t.Errorf("printed %s", r.out)
			}
			ecpctl(t, s, "", append(report, "--since", "soon")...).exits(exitUsage).complains("neither a time")
		})
	}
}

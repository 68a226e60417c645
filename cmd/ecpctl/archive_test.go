package main

import (
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

func TestArchiveStatus(t *testing.T) {
	s, _ := startAPI(t, "")
	ecpctl(t, s, "", "archive", "status").exits(exitDone).prints(
		"ALARM: 3 rows of fleet_events fit in no partition",
		"archive off, 0 of 1 events", "at the bound: block",
		"last error 2001-09-09T01:46:40Z: out of connections",
		"months are made 3 ahead (next 2026-12, 2026-09-01) and stay 24h0m0s after their end (next 2026-11, 2026-12-02)",
		"cursor 41, by cp-0 in term 2, 2026-11-01T00:00:00Z", "0 events are missing, in 0 gaps; 0 are set aside", "reports as of 2026-11-01",
		"fleet_events  fleet_events_2026_11  2026-11-01  2026-12-01  ~1200  65536",
		"fleet_events  fleet_events_default  -           -           3      8192",
	)
	got := decode[wire.Archive](ecpctl(t, s, "", "archive", "status", "-o", "json").exits(exitDone))
	if got.Database == nil || got.Database.Tables[0].DefaultRows != 3 || got.MonthsAhead != 3 {
		t.Errorf("%+v", got)
	}
}

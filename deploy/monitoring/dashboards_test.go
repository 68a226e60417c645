package monitoring_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Query string }
	}
}

type panel struct {
	ID      int
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr, RefID string }
}

// dashboards are those of all files by their names.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	found := map[string]dashboard{}
	for _, file := range glob(t, "dashboards/*.json") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	return found
}

// filled is an expression with the values of Grafana's variables.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$job", job, "$tenant", ".*", "$fleet", ".*").Replace(expr)
}

// TestDashboardsAreWhole: Grafana refuses a second uid, and draws panels that
// share an id or a place over each other.
func TestDashboardsAreWhole(t *testing.T) {
	all, uids := dashboards(t), map[string]bool{}
	for _, want := range []string{"cluster", "xds", "fleets", "api", "archive"} {
		if _, ok := all[want]; !ok {
			t.Errorf("there is no dashboard %s", want)
		}
	}
	for name, d := range all {
		if d.UID == "" || uids[d.UID] || d.Title == "" || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q, title %q, %d panels", name, d.UID, d.Title, len(d.Panels))
		}
		uids[d.UID] = true
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d (%s) has an id of another, or nothing to show", name, p.ID, p.Title)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: %s lies over %s", name, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

// TestDashboardsAreGrafanas: Grafana's own types take the dashboards strictly, with
// the options of their panels and queries: no field is unknown, and none missing.
func TestDashboardsAreGrafanas(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	strictly := func(raw []byte) error {
		var d grafana.Dashboard //nolint:staticcheck // the schema of files that every Grafana takes
		err := d.UnmarshalJSONStrict(raw)
		if wrong, is := errors.AsType[cog.BuildErrors](err); is && len(wrong) == 0 {
			err = d.Validate() // what is returned without errors is no nil
		}
		return err
	}
	for _, file := range glob(t, "dashboards/*.json") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictly(raw); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, right := range []string{`"colorMode"`, `"showLegend"`, `"expr"`} {
			if wrong := bytes.Replace(raw, []byte(right), []byte(`"wrong"`), 1); bytes.Equal(wrong, raw) || strictly(wrong) == nil {
				t.Errorf("%s: %s is not there, or may be misspelt", file, right)
			}
		}
	}
}

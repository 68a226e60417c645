package monitoring_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	runbooks    = "../runbooks"
	runbookBase = "https://github.com/org/envoy-control-plane/blob/main/deploy/runbooks/"
)

type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// rules are those of all files.
func rules(t *testing.T) []rule {
	t.Helper()
	var found []rule
	for _, file := range glob(t, "rules/*.yaml") {
		var doc struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		readYAML(t, file, &doc)
		for _, g := range doc.Groups {
			found = append(found, g.Rules...)
		}
	}
	return found
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	tool(t, promtool, append([]string{"check", "rules"}, glob(t, "rules/*.yaml")...)...)
}

func TestAmtoolAcceptsTheRoutes(t *testing.T) {
	tool(t, amtool, "check-config", "prometheus/alertmanager.yml")
	route := func(want string, labels ...string) {
		t.Helper()
		got := tool(t, amtool, append([]string{"config", "routes", "test", "--config.file=prometheus/alertmanager.yml"}, labels...)...)
		if strings.TrimSpace(got) != want {
			t.Errorf("%v goes to %s, want %s", labels, got, want)
		}
	}
	route("page", "alertname=NoLeader", "severity=critical")
	route("message", "alertname=NodeDown", "severity=warning")
}

// TestAlertsFireAndStaySilent runs the unit tests of tests/, and wants both of
// every alert.
func TestAlertsFireAndStaySilent(t *testing.T) {
	files := glob(t, "tests/*.yaml")
	tool(t, promtool, append([]string{"test", "rules"}, files...)...)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		var doc struct {
			Tests []struct {
				Name string
				Want []struct {
					Expr    string
					Samples []struct{ Labels string } `json:"exp_samples"`
				} `json:"promql_expr_test"`
			}
		}
		raw := map[string]any{} // other keys are promtool's to check
		readYAML(t, file, &raw)
		remarshal(t, raw, &doc)
		for _, test := range doc.Tests {
			name, what, _ := strings.Cut(test.Name, " ")
			for _, w := range test.Want {
				if !strings.Contains(w.Expr, `alertname="`+name+`", alertstate="firing"`) {
					continue
				}
				fires[name] = fires[name] || what == "fires" && len(w.Samples) == 1
				silent[name] = silent[name] || strings.HasPrefix(what, "stays silent: ") && len(w.Samples) == 0
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s: a test that it fires: %v, that it stays silent: %v", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// TestEachAlertHasItsRunbook: and each page its alert.
func TestEachAlertHasItsRunbook(t *testing.T) {
	pages := map[string]bool{}
	for _, file := range glob(t, filepath.Join(runbooks, "*.md")) {
		pages[strings.TrimSuffix(filepath.Base(file), ".md")] = true
	}
	delete(pages, "README")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if got := r.Annotations["runbook_url"]; got != runbookBase+r.Alert+".md" {
			t.Errorf("%s: its runbook_url is %q", r.Alert, got)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks a summary or a description", r.Alert)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		text, err := os.ReadFile(filepath.Join(runbooks, r.Alert+".md"))
		if err != nil {
			t.Errorf("%s: %v", r.Alert, err)
			continue
		}
		for _, part := range []string{"# " + r.Alert + "\n", "\n## What it means\n", "\n## What to look at\n", "\n## What to do\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("the runbook of %s lacks %q", r.Alert, strings.TrimSpace(part))
			}
		}
		delete(pages, r.Alert)
	}
	for page := range pages {
		t.Errorf("%s.md is the runbook of no alert", page)
	}
}

package monitoring_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	grouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	// A name that no parenthesis follows is a series; braces alone would be one too, but nobody writes them here.
	named = regexp.MustCompile(`\b([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?\s*(\()?`)
	words = []string{"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "e", "inf", "nan"}
)

// selectors are the series that a PromQL expression asks for, each once.
func selectors(expr string) []string {
	var found []string
	expr = grouping.ReplaceAllString(expr, " ")
	expr = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(expr, " ")
	for _, m := range named.FindAllStringSubmatch(expr, -1) {
		name, labels, call := m[1], m[2], m[3]
		if call != "" && labels == "" || slices.Contains(words, strings.ToLower(name)) {
			continue
		}
		if s := name + labels; !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}

func TestSelectors(t *testing.T) {
	for expr, want := range map[string][]string{
		`up == 0`: {"up"},
		`sum by (job) (rate(a_total{x=~"5..", y="z"}[5m])) / on (job) b > 0.05`:     {`a_total{x=~"5..", y="z"}`, "b"},
		`(job:x:rate5m offset 10m) and job:x:rate5m < 2 or absent(up{job="a"})`:     {"job:x:rate5m", `up{job="a"}`},
		`max(a) - on () group_right () b{c="d"} unless time() > 3 * 1024`:           {"a", `b{c="d"}`},
		`increase(max by (job, tenant) (r{f=~".*"})[1h:1m]) >= bool 1`:              {`r{f=~".*"}`},
		`sum without (status) (p:q:max) and on (job, fleet) p:q:max{s="a"} > 1 > 0`: {"p:q:max", `p:q:max{s="a"}`},
	} {
		if got := selectors(expr); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

package resource_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/resource"
)

// TestHostile: what a body costs grows with its size, not with its square.
func TestHostile(t *testing.T) {
	const times = 100_000
	nested := fmt.Sprintf(`{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": %q}`, strings.Repeat("x", 2_000_000))
	for range 40 {
		nested = extension(nested)
	}
	d := resource.New()
	for name, raw := range map[string]string{
		"mistakes and broken rules": cluster(`, "health_checks": [` + strings.Repeat(`{"timeout": 5},`, times) + `{}]`),
		"broken rules":              cluster(`, "health_checks": [` + strings.Repeat(`{},`, times) + `{}]`),
		"one key":                   cluster(strings.Repeat(`, "a": 1`, times)),
		"aliases that are none":     `{"name": "web", "aliases": [` + strings.Repeat(`"",`, times) + `""], "resource": ` + cluster("") + `}`,
		"arrays":                    cluster(`, "metadata": {"filter_metadata": {"a": {"b": [` + strings.Repeat(`[],`, times) + `1]}}}`),
		"text in Any in Any":        nested,
	} {
		start := time.Now()
		_, problems := d.Decode("", []byte(raw))
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: %s for %d bytes", name, took, len(raw))
		} else {
			t.Logf("%s: %s for %d bytes, %d problems", name, took, len(raw), len(problems))
		}
	}
}

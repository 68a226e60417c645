package resource_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/resource"
)

// TestMutations changes good resources at random. Whatever comes of it: no
// panic, a path for every mistake (the whole item's is protojson's, which
// means that the walk has missed it), and what is taken shows as what it was.
func TestMutations(t *testing.T) {
	good := []string{
		listener(routes(`"route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}]}, "timeout": "1.5s"}`),
			`{"name": "own", "typed_config": {"@type": "type.googleapis.com/acme.Filter", "value": "CgF4"}},
			{"name": "struct", "typed_config": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "a/b", "value": {"k": [1, null]}}},`),
		cluster(`, "type": "EDS", "connect_timeout": "0.5s", "per_connection_buffer_limit_bytes": 5, "metadata": {"filter_metadata": {"a": {"b": 1}}},
			"common_lb_config": {"healthy_panic_threshold": {"value": 0.5}},
			"typed_extension_protocol_options": {"a": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"}}`),
		extension(`{"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}}`),
		`{"name": "r/h", "aliases": ["r/x"], "ttl": "5s", "resource": {"@type": "type.googleapis.com/envoy.config.route.v3.VirtualHost", "name": "h", "domains": ["*"]}}`,
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	d, taken := resource.New(), 0
	for range 5_000 {
		var value any
		if err := json.Unmarshal([]byte(good[random.IntN(len(good))]), &value); err != nil {
			t.Fatal(err)
		}
		for range 1 + random.IntN(2) {
			value = mutated(random, value)
		}
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		r, problems := d.Decode("u[0]", raw)
		if r != nil {
			taken++
			roundTrip(t, r)
		}
		for _, p := range problems {
			if strings.Contains(p.Detail, "(line 1:") {
				t.Fatalf("seed %d: %s\n%+v", seed, raw, p)
			}
		}
	}
	if taken < 250 {
		t.Errorf("only %d were taken", taken)
	}
}

// mutated changes one place in a value.
func mutated(random *rand.Rand, value any) any {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || random.IntN(8) == 0 {
			break
		}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		key := keys[random.IntN(len(keys))]
		switch random.IntN(12) {
		case 0:
			delete(v, key)
		case 1:
			v[key+"x"] = v[key]
		case 2:
			v[camel(key)] = v[key]
			delete(v, key)
		default:
			v[key] = mutated(random, v[key])
		}
		return v
	case []any:
		if len(v) == 0 || random.IntN(8) == 0 {
			break
		}
		i := random.IntN(len(v))
		if random.IntN(6) == 0 {
			return append(v, v[i])
		}
		v[i] = mutated(random, v[i])
		return v
	}
	odd := []any{
		nil, true, "", "x", "1s", "-0.5s", "eA==", "1e3", "NaN", "type.googleapis.com/google.protobuf.Empty", 0, -1, 1.5, 1e300, 4294967296,
		[]any{},
		[]any{nil},
		[]any{map[string]any{}},
		map[string]any{},
		map[string]any{"value": "eA=="},
		map[string]any{"@type": "a/b", "value": ""},
		map[string]any{"@type": "type.googleapis.com/google.protobuf.Empty", "value": map[string]any{}},
	}
	return odd[random.IntN(len(odd))]
}

func camel(key string) string {
	parts := strings.Split(key, "_")
	for i, p := range parts {
		if i > 0 && p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

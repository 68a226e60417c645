package api_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
)

// FuzzChangeSet: whatever comes is either a command that holds what was
// asked, each resource once, or a refusal that says where and why.
func FuzzChangeSet(f *testing.F) {
	for _, seed := range []string{
		`{"message":"why","expect_revision":12,"mode":"merge","upsert":[` + cluster("web", "") + `],"delete":[{"type":"listener","name":"old"}]}`,
		`{"mode":"replace","upsert":[]}`, `{"upsert":[{"@type":"x","name":"a"},{"@type":"x","name":"a"}]}`,
		`{"delete":[{"type":"cluster"}],"x":{"y":[1,2]}}`, `{"expect_revision":-1}`, `null`, `[]`, `{"message":"\ud800"}`,
		"mode: replace\nupsert:\n- '@type': x\n  name: a\n", "a: &a [*a]", "? {a: 1}\n: 2\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, isYAML bool) {
		if isYAML {
			converted, err := api.FromYAML(raw)
			if err != nil {
				demandProblem(t, err)
				return
			}
			if raw = converted; raw != nil && !json.Valid(raw) {
				t.Fatalf("YAML became %q", raw)
			}
		}
		got, err := api.DecodeChangeSet(raw, plainResources{})
		if err != nil {
			demandProblem(t, err)
			return
		}
		seen := map[[2]string]bool{}
		for _, r := range got.GetUpsert() {
			seen[[2]string{r.GetTypeUrl(), r.GetName()}] = true
		}
		for _, k := range got.GetDelete() {
			seen[[2]string{k.GetTypeUrl(), k.GetName()}] = true
		}
		if len(seen) != len(got.GetUpsert())+len(got.GetDelete()) {
			t.Fatalf("a resource is there twice: %v", got)
		}
		for k := range seen {
			if k[0] == "" || k[1] == "" || len(k[1]) > 1024 {
				t.Fatalf("a resource lacks its name: %v", got)
			}
		}
	})
}

func demandProblem(t *testing.T, err error) {
	t.Helper()
	var p *wire.Problem
	if !errors.As(err, &p) || p.Status < 400 || p.Status > 499 || p.Detail == "" {
		t.Fatalf("refused with %v", err)
	}
}

// FuzzSpot: a place that is taken is written as one that is taken for the same.
func FuzzSpot(f *testing.F) {
	for _, seed := range []string{"0", "4711", "e1/4711", "a/b/1", "/1", "e/", "-1", "+1", "01", "9223372036854775807", "9223372036854775808", "é/1", " 1", "1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		epoch, number, again, ok := api.ParseSpot(text)
		if !ok {
			return
		}
		if number > math.MaxInt64 {
			t.Errorf("%q is number %d, which no database holds", text, number)
		}
		e, n, _, ok := api.ParseSpot(again)
		if !ok || e != epoch || n != number {
			t.Errorf("%q is %q and %d, its own form %q is %q and %d", text, epoch, number, again, e, n)
		}
	})
}

package bootstrap_test

import (
	"testing"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

func TestBootstrapRefuses(t *testing.T) {
	for name, o := range map[string]bootstrap.Options{
		"no fleet":       {Proxy: "p", XDS: []string{"a:1"}},
		"no node":        {Proxy: "p", Fleet: "f"},
		"no port":        {Proxy: "p", Fleet: "f", XDS: []string{"a"}},
		"port too large": {Proxy: "p", Fleet: "f", XDS: []string{"a:70000"}},
		"bad admin":      {Proxy: "p", Fleet: "f", XDS: []string{"a:1"}, Admin: "x"},
	} {
		if out, err := bootstrap.Envoy(o); err == nil {
			t.Errorf("%s: no error but\n%s", name, out)
		}
	}
}

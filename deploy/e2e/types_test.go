package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// otherTypes is a fleet whose routes come by scopes, whose filters of each
// kind by name, and whose runtime from here: two ports, a status of its fault
// filter, where scope "b" leads, and a number of the runtime.
func otherTypes(httpPort, tcpPort, status int, b string, number int) string {
	const (
		ads   = `{ads: {}, resource_api_version: V3}`
		types = "type.googleapis.com/envoy."
	)
	discover := func(of string) string {
		return fmt.Sprintf(`{config_source: %s, type_urls: [%sextensions.filters.%s]}`, ads, types, of)
	}
	extension := func(name, of, config string) string {
		return fmt.Sprintf("---\n\"@type\": %sconfig.core.v3.TypedExtensionConfig\nname: %s\ntyped_config: {\"@type\": %sextensions.filters.%s%s}\n",
			types, name, types, of, config)
	}
	var out strings.Builder
	fmt.Fprintf(&out, `
"@type": %[1]sconfig.listener.v3.Listener
name: http
address: {socket_address: {address: 127.0.0.1, port_value: %[3]d}}
listener_filters: [{name: sniff, config_discovery: %[5]s}]
filter_chains:
  - filters:
      - name: hcm
        typed_config:
          "@type": %[1]sextensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          scoped_routes:
            name: scopes
            scope_key_builder: {fragments: [{header_value_extractor: {name: x-scope, index: 0}}]}
            rds_config_source: %[2]s
            scoped_rds: {scoped_rds_config_source: %[2]s}
          http_filters:
            - {name: fault, config_discovery: %[6]s}
            - {name: router, typed_config: {"@type": %[1]sextensions.filters.http.router.v3.Router}}
---
"@type": %[1]sconfig.listener.v3.Listener
name: tcp
address: {socket_address: {address: 127.0.0.1, port_value: %[4]d}}
filter_chains: [{filters: [{name: say, config_discovery: %[7]s}]}]
`, types, ads, httpPort, tcpPort, discover("listener.tls_inspector.v3.TlsInspector"), discover("http.fault.v3.HTTPFault"),
		discover("network.direct_response.v3.Config"))
	out.WriteString(extension("sniff", "listener.tls_inspector.v3.TlsInspector", ""))
	out.WriteString(extension("fault", "http.fault.v3.HTTPFault",
		fmt.Sprintf(`, headers: [{name: x-fault, present_match: true}], abort: {http_status: %d, percentage: {numerator: 100}}`, status)))
	out.WriteString(extension("say", "network.direct_response.v3.Config", fmt.Sprintf(`, response: {inline_string: "status %d"}`, status)))
	for scope, route := range map[string]string{"a": "one", "b": b} {
		fmt.Fprintf(&out, "---\n\"@type\": %sconfig.route.v3.ScopedRouteConfiguration\nname: %s\nroute_configuration_name: %s\nkey: {fragments: [{string_key: %s}]}\n",
			types, scope, route, scope)
	}
	for _, route := range []string{"one", "two"} {
		fmt.Fprintf(&out, "---\n\"@type\": %sconfig.route.v3.RouteConfiguration\nname: %s\nvirtual_hosts: [{name: all, domains: [\"*\"], "+
			"routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: route %s}}}]}]\n", types, route, route)
	}
	fmt.Fprintf(&out, "---\n\"@type\": %sservice.runtime.v3.Runtime\nname: numbers\nlayer: {ecp: {number: %d}}\n", types, number)
	return out.String()
}

const runtimeLayers = `
layered_runtime:
  layers: [{name: numbers, rtds_layer: {name: numbers, rtds_config: {ads: {}, resource_api_version: V3}}}]
`

// answered returns nil when a request with a header is answered as wanted.
func answered(port int, header, value string, status int, body string) error {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("x-scope", "a")
	req.Header.Set(header, value)
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.Contains(string(text), body) {
		return fmt.Errorf("%d %q, want %d %q (%w)", resp.StatusCode, text, status, body, err)
	}
	return nil
}

// said returns nil when a connection is greeted as wanted.
func said(port int, want string) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	text, err := io.ReadAll(conn)
	if err != nil || string(text) != want {
		return fmt.Errorf("%q, want %q (%w)", text, want, err)
	}
	return nil
}

// TestScopesExtensionsAndRuntime: SRDS, ECDS of the three kinds of filters and
// RTDS reach a real Envoy, and so do their changes.
func TestScopesExtensionsAndRuntime(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	for _, sotw := range []bool{false, true} {
		fleet := map[bool]string{false: "delta", true: "sotw"}[sotw]
		t.Run(fleet, func(t *testing.T) {
			c, ports := c.in(t), freePorts(t, 2)
			apply := func(status int, b string, number int) {
				c.ecpctl(0, otherTypes(ports[0], ports[1], status, b, number), "apply", "-f", "-", "--fleet", fleet, "--wait=20s")
			}
			apply(418, "two", 1)
			envoy := c.launch(t, "", bootstrap.Options{Proxy: fleet, Fleet: fleet, SotW: sotw}, func(text string) string { return text + runtimeLayers })
			number := func(want string) error {
				var runtime struct {
					Entries map[string]struct {
						FinalValue string `json:"final_value"`
					}
				}
				err := get("http://"+envoy.Admin+"/runtime", &runtime)
				if got := runtime.Entries["ecp.number"].FinalValue; err == nil && got != want {
					err = fmt.Errorf("the runtime has %q", got)
				}
				return err
			}
			has := func(status int, b, wantNumber string) {
				t.Helper()
				for what, f := range map[string]func() error{
					"scope a": func() error { return answered(ports[0], "x-scope", "a", 200, "route one") },
					"scope b": func() error { return answered(ports[0], "x-scope", "b", 200, "route "+b) },
					"fault":   func() error { return answered(ports[0], "x-fault", "1", status, "") },
					"network": func() error { return said(ports[1], fmt.Sprintf("status %d", status)) },
					"runtime": func() error { return number(wantNumber) },
				} {
					eventually(t, 20*time.Second, what, f)
				}
			}
			has(418, "two", "1")
			apply(429, "one", 2)
			has(429, "one", "2")
		})
	}
}

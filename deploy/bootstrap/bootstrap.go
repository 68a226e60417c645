// Package bootstrap writes what an Envoy must know before it knows anything:
// who it is and where the control plane is. ecpctl, the dev command and the
// end-to-end tests use it.
package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"
)

// Options of one Envoy's bootstrap.
type Options struct {
	// Proxy is the Envoy's id, Fleet its fleet. Both are needed.
	Proxy, Fleet string
	// Tenant that owns the fleet; empty leaves it to the default.
	Tenant string
	// Locality of the Envoy; empty parts are left out.
	Region, Zone, SubZone string
	// Labels of the proxy, sent as metadata "labels".
	Labels map[string]string
	// XDS are the nodes, each host:port. An Envoy whose node goes away tries
	// another one.
	XDS []string
	// SotW asks for the state of the world instead of deltas.
	SotW bool
	// Services asks each discovery service by a stream of its own, instead of
	// all by one aggregated stream.
	Services bool
	// Admin is the host and port of the admin interface; empty: a free port
	// on 127.0.0.1.
	Admin string
	// InitialFetchTimeout is how long the Envoy waits at its start for its
	// listeners and clusters before it goes on without them. 0 waits for
	// ever: it never starts to serve half-configured.
	InitialFetchTimeout time.Duration
	// MetricsInterval is how often the Envoy sends its metrics to the nodes, at
	// least a millisecond. 0: never.
	MetricsInterval time.Duration
}

const xdsCluster = "envoy_control_plane"

type object = map[string]any

// Envoy returns the bootstrap of an Envoy, as YAML.
func Envoy(o Options) ([]byte, error) {
	if o.Proxy == "" || o.Fleet == "" || len(o.XDS) == 0 {
		return nil, errors.New("a bootstrap needs a proxy id, a fleet and the xDS address of a node at least")
	}
	cluster, err := controlPlane(o.XDS)
	if err != nil {
		return nil, err
	}
	if o.Admin == "" {
		o.Admin = "127.0.0.1:0"
	}
	admin, err := socketAddress(o.Admin)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	out := object{
		"node":              node(o),
		"admin":             object{"address": admin},
		"dynamic_resources": dynamicResources(o),
		"static_resources":  object{"clusters": []object{cluster}},
	}
	if o.MetricsInterval > 0 {
		out["stats_flush_interval"], out["stats_sinks"] = seconds(o.MetricsInterval), []object{metricsSink()}
	}
	return yaml.Marshal(out)
}

// metricsSink sends metrics as the nodes take them: counters as totals, which is
// the default, what names share taken out as labels, and each histogram once.
func metricsSink() object {
	return object{
		"name": "envoy.stat_sinks.metrics_service",
		"typed_config": object{
			"@type":                 "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
			"transport_api_version": "V3",
			"grpc_service":          object{"envoy_grpc": object{"cluster_name": xdsCluster}},
			"emit_tags_as_labels":   true,
			"histogram_emit_mode":   "HISTOGRAM",
		},
	}
}

func node(o Options) object {
	n := object{
		"id": o.Proxy, "cluster": o.Fleet,
		// Envoy can do both, and does not say so by itself.
		"client_features": []string{"xds.config.supports-resource-ttl", "xds.config.resource-in-sotw"},
	}
	metadata := object{}
	if o.Tenant != "" {
		metadata["tenant"] = o.Tenant
	}
	if len(o.Labels) > 0 {
		metadata["labels"] = o.Labels
	}
	if len(metadata) > 0 {
		n["metadata"] = metadata
	}
	locality := object{}
	for name, value := range map[string]string{"region": o.Region, "zone": o.Zone, "sub_zone": o.SubZone} {
		if value != "" {
			locality[name] = value
		}
	}
	if len(locality) > 0 {
		n["locality"] = locality
	}
	return n
}

func dynamicResources(o Options) object {
	source := object{"resource_api_version": "V3", "initial_fetch_timeout": seconds(o.InitialFetchTimeout)}
	resources := object{"cds_config": source, "lds_config": source}
	if o.Services {
		source["api_config_source"] = apiConfig(o.SotW)
	} else {
		source["ads"], resources["ads_config"] = object{}, apiConfig(o.SotW)
	}
	return resources
}

func apiConfig(sotw bool) object {
	api := "DELTA_GRPC"
	if sotw {
		api = "GRPC"
	}
	return object{
		"api_type": api, "transport_api_version": "V3", "set_node_on_first_message_only": true,
		"grpc_services": []object{{
			"envoy_grpc": object{
				"cluster_name": xdsCluster,
				// A node that goes away is left within moments, not after
				// the half minute that the waits may grow to otherwise.
				"retry_policy": object{"retry_back_off": object{"base_interval": "0.2s", "max_interval": "5s"}},
			},
		}},
	}
}

// controlPlane is the cluster of the nodes. Keepalives find a connection whose
// other end has gone without a word.
func controlPlane(nodes []string) (object, error) {
	kind, endpoints := "STATIC", []object{}
	for _, at := range nodes {
		address, err := socketAddress(at)
		if err != nil {
			return nil, fmt.Errorf("xDS address: %w", err)
		}
		if host, _, _ := net.SplitHostPort(at); net.ParseIP(host) == nil {
			kind = "STRICT_DNS"
		}
		endpoints = append(endpoints, object{"endpoint": object{"address": address}})
	}
	http2 := object{"connection_keepalive": object{"interval": "10s", "timeout": "5s"}}
	return object{
		"name": xdsCluster, "type": kind, "connect_timeout": "1s", "lb_policy": "ROUND_ROBIN",
		"typed_extension_protocol_options": object{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": http2},
			},
		},
		"load_assignment": object{
			"cluster_name": xdsCluster,
			"endpoints":    []object{{"lb_endpoints": endpoints}},
		},
	}, nil
}

func socketAddress(hostPort string) (object, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" {
		return nil, fmt.Errorf("%q is not host:port", hostPort)
	}
	return object{"socket_address": object{"address": host, "port_value": number}}, nil
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

package xds

import (
	"cmp"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// statusOf shows proxies as ClientConfigs.
type statusOf struct {
	state    *fsm.State
	contents bool
}

// client shows a proxy over all its streams: of a resource that is on several
// of them, the one that is furthest from what it should be.
func (x statusOf) client(row *fsmpb.Proxy, streams []*fsmpb.StreamConfig) *statusv3.ClientConfig {
	out := &statusv3.ClientConfig{Node: nodeOf(row)}
	type key struct{ url, name string }
	at := map[key]int{}
	for _, s := range streams {
		for _, t := range s.Types {
			for _, r := range t.Resources {
				g := x.resource(row, t, r)
				i, twice := at[key{t.TypeUrl, r.Name}]
				switch {
				case !twice:
					at[key{t.TypeUrl, r.Name}] = len(out.GenericXdsConfigs)
					out.GenericXdsConfigs = append(out.GenericXdsConfigs, g)
				case distance(g) > distance(out.GenericXdsConfigs[i]):
					out.GenericXdsConfigs[i] = g
				}
			}
		}
	}
	return out
}

// distance orders statuses from what is to what is wrong.
func distance(g *statusv3.ClientConfig_GenericXdsConfig) int {
	switch g.ConfigStatus {
	case statusv3.ConfigStatus_SYNCED:
		return 0
	case statusv3.ConfigStatus_NOT_SENT:
		return 1
	case statusv3.ConfigStatus_STALE:
		return 2
	default:
		return 3
	}
}

// nodeOf returns the part of a proxy's node that is kept.
func nodeOf(row *fsmpb.Proxy) *corev3.Node {
	labels := map[string]*structpb.Value{}
	for k, v := range row.Labels {
		labels[k] = structpb.NewStringValue(v)
	}
	n := &corev3.Node{Id: row.Id, Cluster: row.Fleet, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"tenant": structpb.NewStringValue(row.Tenant),
		"labels": structpb.NewStructValue(&structpb.Struct{Fields: labels}),
	}}}
	if l := row.Locality; l != nil {
		n.Locality = &corev3.Locality{Region: l.Region, Zone: l.Zone, SubZone: l.SubZone}
	}
	return n
}

// resource shows one resource. Its content and version_info are what it
// should be or, when it is to go, what it is.
func (x statusOf) resource(row *fsmpb.Proxy, t *fsmpb.TypeConfig, r *fsmpb.ResourceConfig) *statusv3.ClientConfig_GenericXdsConfig {
	version := cmp.Or(r.Should, r.Acked)
	g := &statusv3.ClientConfig_GenericXdsConfig{TypeUrl: t.TypeUrl, Name: r.Name, VersionInfo: version}
	if r.Acked == "" {
		g.ClientStatus = adminv3.ClientResourceStatus_REQUESTED
	}
	switch r.Status {
	case fsmpb.ResourceConfig_SYNCED:
		g.ConfigStatus, g.ClientStatus = statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED
		g.LastUpdated = instant(t.AckedAt)
	case fsmpb.ResourceConfig_PENDING:
		g.ConfigStatus, g.LastUpdated = statusv3.ConfigStatus_STALE, instant(t.SentAt)
	case fsmpb.ResourceConfig_REJECTED:
		g.ConfigStatus, g.ClientStatus = statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED
		g.LastUpdated = instant(t.RejectedAt)
		g.ErrorState = &adminv3.UpdateFailureState{
			Details: t.RejectedDetail, VersionInfo: r.Rejected, LastUpdateAttempt: instant(t.RejectedAt),
		}
	case fsmpb.ResourceConfig_ABSENT:
		g.ConfigStatus, g.ClientStatus = statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_DOES_NOT_EXIST
	default:
		g.ConfigStatus = statusv3.ConfigStatus_NOT_SENT
	}
	if x.contents && version != "" {
		key := &fsmpb.ResourceKey{TypeUrl: t.TypeUrl, Name: r.Name}
		if body, ok := x.state.Content(row.Tenant, row.Fleet, key, version); ok {
			g.XdsConfig = &anypb.Any{TypeUrl: t.TypeUrl, Value: body}
		}
	}
	return g
}

// instant is nil for no time.
func instant(nanos int64) *timestamppb.Timestamp {
	if nanos == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, nanos))
}

package xds

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// hello is what a proxy tells about itself beyond who it is.
type hello struct {
	build    string
	locality *fsmpb.Locality
	labels   map[string]string
	// ttl: it takes times to live. wrapped: and, in the state of the world,
	// resources in the wrapper that carries them.
	ttl, wrapped bool
}

// Client features. The protocol's documentation has the second under both
// names.
const (
	featureTTL        = "xds.config.supports-resource-ttl"
	featureWrapped    = "xds.config.supports-resource-in-sotw"
	featureWrappedToo = "xds.config.resource-in-sotw"
)

// Bounds of what becomes part of the replicated state.
const (
	maxProxyID    = 1 << 10
	maxLabels     = 64
	maxLabelBytes = 256
)

// maxNode bounds the node of a request: decoded, its metadata takes many times
// the size. Envoy's, with the names of all its extensions, has about 100 KiB.
const maxNode = 1 << 20

// namePattern is that of tenants and fleets, see contract.md: a name outside
// it can never come to exist.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$`)

// identify finds out whose stream it is by its first request.
func (s *Server) identify(ctx context.Context, encoded []byte) (Identity, *hello, error) {
	if len(encoded) > maxNode {
		return Identity{}, nil, status.Errorf(codes.InvalidArgument, "node: has %d bytes, at most %d are taken", len(encoded), maxNode)
	}
	node := &corev3.Node{}
	if err := proto.Unmarshal(encoded, node); err != nil {
		return Identity{}, nil, status.Errorf(codes.InvalidArgument, "node: %v", err)
	}
	id, err := s.identityOf(ctx, node)
	if err != nil {
		return Identity{}, nil, err
	}
	if err := id.check(); err != nil {
		return Identity{}, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return id, helloOf(node), nil
}

func (s *Server) identityOf(ctx context.Context, node *corev3.Node) (Identity, error) {
	if s.deps.Identify != nil {
		id, err := s.deps.Identify(ctx, node)
		if err != nil {
			if _, ok := status.FromError(err); !ok {
				err = status.Error(codes.PermissionDenied, err.Error())
			}
			return Identity{}, err
		}
		return id, nil
	}
	id := Identity{Tenant: s.config.DefaultTenant, Fleet: node.GetCluster(), Proxy: node.GetId()}
	if v, ok := node.GetMetadata().GetFields()["tenant"]; ok {
		if _, text := v.GetKind().(*structpb.Value_StringValue); !text {
			return Identity{}, status.Error(codes.InvalidArgument, "node.metadata.tenant is not a string")
		}
		id.Tenant = v.GetStringValue()
	}
	return id, nil
}

func (id Identity) check() error {
	switch {
	case id.Proxy == "":
		return fmt.Errorf("node.id is missing: it names the proxy")
	case id.Fleet == "":
		return fmt.Errorf("node.cluster is missing: it names the proxy's fleet")
	case len(id.Proxy) > maxProxyID || !printable(id.Proxy):
		return fmt.Errorf("node.id is longer than %d bytes or not printable", maxProxyID)
	case !namePattern.MatchString(id.Fleet):
		return fmt.Errorf("node.cluster %.80q cannot name a fleet: want %s", id.Fleet, namePattern)
	case !namePattern.MatchString(id.Tenant):
		return fmt.Errorf("node.metadata.tenant %.80q cannot name a tenant: want %s", id.Tenant, namePattern)
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func helloOf(node *corev3.Node) *hello {
	h := &hello{build: buildOf(node), labels: map[string]string{}}
	if l := node.GetLocality(); l != nil {
		h.locality = &fsmpb.Locality{
			Region: firstText(l.Region), Zone: firstText(l.Zone), SubZone: firstText(l.SubZone),
		}
	}
	for _, feature := range node.GetClientFeatures() {
		switch feature {
		case featureTTL:
			h.ttl = true
		case featureWrapped, featureWrappedToo:
			h.wrapped = true
		}
	}
	labels := node.GetMetadata().GetFields()["labels"].GetStructValue().GetFields()
	for k, v := range labels {
		text := v.GetStringValue()
		if text != "" && len(h.labels) < maxLabels && len(k) <= maxLabelBytes && len(text) <= maxLabelBytes {
			h.labels[k] = text
		}
	}
	return h
}

// buildOf returns the proxy's program and version, "envoy/1.40.0".
func buildOf(node *corev3.Node) string {
	name := firstText(node.GetUserAgentName())
	if v := node.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%s/%d.%d.%d", name, v.MajorNumber, v.MinorNumber, v.Patch)
	}
	if v := node.GetUserAgentVersion(); v != "" {
		return name + "/" + firstText(v)
	}
	return name
}

// firstText cuts a text to what is kept of it. Commands hold valid UTF-8 only.
func firstText(s string) string { return strings.ToValidUTF8(firstN(s, maxLabelBytes), "") }

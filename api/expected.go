package api

import (
	"maps"
	"slices"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// versions are those of the resources of a type, by name.
type versions map[string]string

// expected lists what the fleet has for a proxy that no node tells of, with
// the endpoints and secrets that its resources ask for.
func (x contents) expected() ([]wire.TypeConfig, error) {
	rev, ok := x.state.Revision(x.row.GetTenant(), x.row.GetFleet(), 0)
	if !ok {
		return nil, nil
	}
	all := map[string]versions{}
	note := func(url, name, version string) {
		if all[url] == nil {
			all[url] = versions{}
		}
		all[url][name] = version
	}
	for _, url := range rev.Types() {
		for res := range rev.Resources(url) {
			note(url, res.GetName(), res.GetVersion())
			for _, ref := range res.GetReferences() {
				switch ref.GetKind() {
				case fsmpb.Reference_ENDPOINTS:
					e, _ := x.state.Endpoints(x.row.GetTenant(), ref.GetName())
					note(fsm.TypeEndpoints, ref.GetName(), e.GetVersion())
				case fsmpb.Reference_SECRET:
					s, _ := x.state.Secret(x.row.GetTenant(), ref.GetName())
					note(fsm.TypeSecret, ref.GetName(), s.GetVersion())
				}
			}
		}
	}
	var out []wire.TypeConfig
	for _, url := range slices.Sorted(maps.Keys(all)) {
		t, err := x.expectedOf(url, all[url])
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (x contents) expectedOf(url string, of versions) (wire.TypeConfig, error) {
	out := wire.TypeConfig{Type: fsm.ShortType(url), Resources: []wire.ResourceConfig{}}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		message, err := x.message(url, name, of[name])
		if err != nil {
			return out, err
		}
		out.Resources = append(out.Resources, wire.ResourceConfig{
			Name: name, Status: wire.ConfigUnknown, Should: of[name], Resource: message,
		})
	}
	return out, nil
}

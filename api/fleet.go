package api

import (
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// fleetOf returns the fleet that the path names.
func fleetOf(c *call, st *fsm.State) (*fsmpb.Fleet, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	f, ok := st.Fleet(c.param("tenant"), c.param("fleet"))
	if !ok {
		return nil, refuse(wire.CodeFleetNotFound, "tenant %q has no fleet %q", c.param("tenant"), c.param("fleet"))
	}
	return f, nil
}

// headcount is how many proxies a fleet has.
type headcount struct{ all, connected int }

// headcounts counts the proxies of all fleets of a tenant.
func headcounts(st *fsm.State, tenant string) map[string]headcount {
	counts := map[string]headcount{}
	for p := range st.Proxies(tenant, "") {
		n := counts[p.GetFleet()]
		n.all++
		if len(p.GetStreams()) > 0 {
			n.connected++
		}
		counts[p.GetFleet()] = n
	}
	return counts
}

func fleetJSON(f *fsmpb.Fleet, n headcount) wire.Fleet {
	return wire.Fleet{
		Name: f.GetName(), Tenant: f.GetTenant(), Revision: f.GetRevision(), Index: f.GetIndex(),
		Labels: labelsJSON(f.GetLabels()), Settings: settingsJSON(f.GetSettings()),
		Proxies: n.all, Connected: n.connected,
	}
}

func settingsJSON(s *fsmpb.FleetSettings) wire.FleetSettings {
	return wire.FleetSettings{RevisionHistoryLimit: s.GetRevisionHistoryLimit()}
}

func listFleets(_ *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	p, err := c.page("fleets")
	if err != nil {
		return nil, err
	}
	counts := headcounts(st, c.param("tenant"))
	return paged(p, st.Fleets(c.param("tenant"), p.after), (*fsmpb.Fleet).GetName, nil,
		func(f *fsmpb.Fleet) wire.Fleet { return fleetJSON(f, counts[f.GetName()]) }), nil
}

func getFleet(_ *Server, c *call, st *fsm.State) (any, error) {
	f, err := fleetOf(c, st)
	if err != nil {
		return nil, err
	}
	return fleetJSON(f, headcounts(st, f.GetTenant())[f.GetName()]), nil
}

func (s *Server) putFleet(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	command := &fsmpb.PutFleet{Tenant: c.param("tenant"), Name: c.param("fleet")}
	if err := decodeFleet(raw, command); err != nil {
		return nil, err
	}
	r, err := s.propose(c, raw, &fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: command}})
	if err != nil {
		return nil, err
	}
	return &answer{status: statusOf(r), body: wire.FleetWritten{
		Name: command.Name, Tenant: command.Tenant, Revision: r.GetRevision(), Index: r.GetIndex(),
		Labels: labelsJSON(command.Labels), Settings: settingsJSON(command.Settings), Unchanged: r.GetUnchanged(),
	}}, nil
}

func (s *Server) deleteFleet(c *call) (*answer, error) {
	force, err := c.flag("force")
	if err != nil {
		return nil, err
	}
	return s.delete(c, &fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{
		DeleteFleet: &fsmpb.DeleteFleet{Tenant: c.param("tenant"), Name: c.param("fleet"), Force: force},
	}})
}

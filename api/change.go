package api

import (
	"cmp"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// maxNamed bounds how many proxies an answer names.
const maxNamed = 100

func (s *Server) changeFleet(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	force, err := c.flag("force")
	if err != nil {
		return nil, err
	}
	command := &fsmpb.ChangeFleet{Tenant: c.param("tenant"), Fleet: c.param("fleet"), Force: force}
	if err := decodeChangeSet(raw, s.deps.Resources, command); err != nil {
		return nil, err
	}
	return s.change(c, raw, &fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: command}})
}

func (s *Server) rollbackFleet(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	force, err := c.flag("force")
	if err != nil {
		return nil, err
	}
	to := &fsmpb.RollbackFleet{Tenant: c.param("tenant"), Fleet: c.param("fleet"), Force: force}
	if err := decodeRollback(raw, to); err != nil {
		return nil, err
	}
	command := &fsmpb.Command{Op: &fsmpb.Command_RollbackFleet{RollbackFleet: to}}
	if again, err := s.changeBack(c, to); err != nil {
		return nil, err
	} else if again != nil {
		command.Op = &fsmpb.Command_ChangeFleet{ChangeFleet: again}
	}
	return s.change(c, raw, command)
}

// changeBack is the change that makes a fleet what it was at a revision that the
// archive alone still has; nil where a rollback says it all.
func (s *Server) changeBack(c *call, to *fsmpb.RollbackFleet) (*fsmpb.ChangeFleet, error) {
	st := s.deps.Cluster.State()
	f, ok := st.Fleet(to.Tenant, to.Fleet)
	if !ok || to.To > f.GetRevision() || s.deps.Archived == nil {
		return nil, nil
	}
	if _, ok := st.Revision(to.Tenant, to.Fleet, to.To); ok {
		return nil, nil
	}
	past, err := s.deps.Archived.Revision(c.ctx, to.Tenant, to.Fleet, to.To)
	if err != nil {
		return nil, s.archiveRefusal(c, err)
	}
	out := &fsmpb.ChangeFleet{
		Tenant: to.Tenant, Fleet: to.Fleet, Force: to.Force, ExpectRevision: to.ExpectRevision,
		Mode: fsmpb.ChangeFleet_REPLACE, Message: cmp.Or(to.Message, fmt.Sprintf("rollback to %d", to.To)),
	}
	size := 0
	for _, url := range past.Types() {
		for res := range past.Resources(url) {
			if size += len(res.GetBody()); size > wire.MaxBodyBytes {
				return nil, refuse(wire.CodeBodyTooLarge, "revision %d has more than the %d bytes that one change may bring", to.To, wire.MaxBodyBytes)
			}
			references, binds, err := s.deps.Resources.Extract(url, res.GetBody())
			if err != nil {
				return nil, refuse(wire.CodeUnknownType, "revision %d, %q: %v", to.To, res.GetName(), err)
			}
			row := proto.CloneOf(res)
			row.References, row.Binds = references, binds
			out.Upsert = append(out.Upsert, row)
		}
	}
	return out, nil
}

// change proposes, or tries out, what makes a revision.
func (s *Server) change(c *call, raw []byte, command *fsmpb.Command) (*answer, error) {
	dry, err := c.flag("dry_run")
	if err != nil {
		return nil, err
	}
	content, err := c.flag("content")
	if err != nil {
		return nil, err
	}
	if dry {
		return s.dryRun(c, command, content)
	}
	if content {
		return nil, refuseParameter("content", "it goes with dry_run=true")
	}
	r, err := s.propose(c, raw, command)
	if err != nil {
		return nil, err
	}
	return &answer{status: statusOf(r), body: changedJSON(r)}, nil
}

// dryRun answers what a change would do.
func (s *Server) dryRun(c *call, command *fsmpb.Command, content bool) (*answer, error) {
	before, after, r, err := s.tryOut(c, command)
	if err != nil {
		return nil, err
	}
	body := changedJSON(r)
	body.DryRun, body.Index, body.Affected = true, before.Index(), &wire.Affected{Proxies: []string{}}
	tenant, fleet := c.param("tenant"), c.param("fleet")
	if row, ok := before.Fleet(tenant, fleet); ok {
		body.Revision = row.GetRevision()
	}
	if len(r.GetChanged()) > 0 {
		body.Affected = affected(before, tenant, fleet)
	}
	for i := range body.Changed {
		body.Changed[i].Version = "" // it would hold another index
	}
	if content {
		from, _ := before.Revision(tenant, fleet, 0)
		to, _ := after.Revision(tenant, fleet, 0)
		if err := s.fill(body.Changed, r.GetChanged(), from, to); err != nil {
			return nil, err
		}
	}
	return &answer{body: body}, nil
}

// affected names the connected proxies of a fleet.
func affected(st *fsm.State, tenant, fleet string) *wire.Affected {
	a := &wire.Affected{Proxies: []string{}}
	for p := range st.Proxies(tenant, "") {
		if p.GetFleet() != fleet || len(p.GetStreams()) == 0 {
			continue
		}
		if a.Connected++; len(a.Proxies) < maxNamed {
			a.Proxies = append(a.Proxies, p.GetId())
		}
	}
	return a
}

func changedJSON(r *fsmpb.Result) wire.Changed {
	return wire.Changed{
		Revision: r.GetRevision(), Index: r.GetIndex(),
		Changed: changesJSON(r.GetChanged()), Warnings: fieldErrors(r.GetWarnings()),
	}
}

func fieldErrors(errs []*fsmpb.FieldError) []wire.FieldError {
	var out []wire.FieldError
	for _, e := range errs {
		out = append(out, wire.FieldError{Path: e.GetPath(), Detail: e.GetDetail()})
	}
	return out
}

func changesJSON(changes []*fsmpb.Change) []wire.Change {
	out := make([]wire.Change, len(changes))
	for i, c := range changes {
		out[i] = wire.Change{
			Op: opJSON(c.GetOp()), Type: fsm.ShortType(c.GetTypeUrl()), Name: c.GetName(), Version: c.GetVersion(),
		}
	}
	return out
}

func opJSON(op fsmpb.Change_Op) string {
	switch op {
	case fsmpb.Change_ADDED:
		return wire.OpAdded
	case fsmpb.Change_UPDATED:
		return wire.OpUpdated
	default:
		return wire.OpRemoved
	}
}

// fill puts the messages before and after into a list of changes.
func (s *Server) fill(out []wire.Change, changes []*fsmpb.Change, from, to *fsm.Revision) (err error) {
	for i, change := range changes {
		if res, ok := from.Resource(change.GetTypeUrl(), change.GetName()); ok {
			if out[i].Before, err = s.message(res); err != nil {
				return err
			}
		}
		if res, ok := to.Resource(change.GetTypeUrl(), change.GetName()); ok {
			if out[i].After, err = s.message(res); err != nil {
				return err
			}
		}
	}
	return nil
}

// message returns a stored Envoy message as JSON.
func (s *Server) message(res *fsmpb.Resource) ([]byte, error) {
	raw, err := s.deps.Resources.JSON(res.GetTypeUrl(), res.GetBody())
	if err != nil {
		return nil, fmt.Errorf("show %s %q: %w", fsm.ShortType(res.GetTypeUrl()), res.GetName(), err)
	}
	return raw, nil
}

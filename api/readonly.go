package api

import (
	"encoding/json"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func readOnlyJSON(r *fsmpb.ReadOnly) wire.ReadOnly {
	if r == nil {
		return wire.ReadOnly{}
	}
	return wire.ReadOnly{
		ReadOnly: true, Index: r.GetIndex(), Since: new(time.Unix(0, r.GetSince()).UTC()), By: r.GetBy(), Message: r.GetMessage(),
	}
}

func getReadOnly(_ *Server, _ *call, st *fsm.State) (any, error) {
	return readOnlyJSON(st.ReadOnly()), nil
}

// decodeReadOnly reads the body of a PUT of the mode. What is to be must be
// said: an empty body is a mistake, not an end.
func decodeReadOnly(raw []byte, to *fsmpb.SetReadOnly) error {
	d := &strict{}
	var on *bool
	if raw != nil {
		d.object("", raw, map[string]field{
			"read_only": func(path string, raw json.RawMessage) {
				on = new(bool)
				into(d, on, "true or false")(path, raw)
			},
			"message": d.text(&to.Message, maxMessageBytes),
		})
	}
	if on == nil && len(d.errs) == 0 {
		d.fail(wire.CodeInvalid, "read_only", "true or false is needed")
	}
	if on != nil {
		to.ReadOnly = *on
	}
	return d.err()
}

func (s *Server) putReadOnly(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	command := &fsmpb.SetReadOnly{}
	if err := decodeReadOnly(raw, command); err != nil {
		return nil, err
	}
	r, err := s.propose(c, raw, &fsmpb.Command{Op: &fsmpb.Command_SetReadOnly{SetReadOnly: command}})
	if err != nil {
		return nil, err
	}
	out := wire.ReadOnly{ReadOnly: command.ReadOnly, Index: r.GetIndex()}
	// Who and why: of the first who turned it on, unless it is over already.
	if now := s.deps.Cluster.State().ReadOnly(); command.ReadOnly && now.GetIndex() == r.GetIndex() {
		out = readOnlyJSON(now)
	}
	return &answer{body: out}, nil
}

package api

import (
	"encoding/json"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of what people write about their configuration.
const (
	maxMessageBytes    = 4096
	maxLabels          = 64
	maxLabelKeyBytes   = 128
	maxLabelValueBytes = 1024
	maxHistoryLimit    = 10_000
)

// labels decodes a map of labels.
func (d *strict) labels(to *map[string]string) field {
	return func(path string, raw json.RawMessage) {
		var values map[string]json.RawMessage
		if err := json.Unmarshal(raw, &values); err != nil {
			d.fail(wire.CodeInvalid, path, "an object of strings is needed, not %s", kindOf(raw))
			return
		}
		if len(values) > maxLabels {
			d.fail(wire.CodeInvalid, path, "at most %d labels are allowed, not %d", maxLabels, len(values))
			return
		}
		out := make(map[string]string, len(values))
		for name, value := range values {
			var text string
			d.text(&text, maxLabelValueBytes)(join(path, name), value)
			if name == "" || len(name) > maxLabelKeyBytes {
				d.fail(wire.CodeInvalid, join(path, name), "a label's name has 1 to %d bytes", maxLabelKeyBytes)
			}
			out[name] = text
		}
		*to = out
	}
}

// decodeTenant reads the body of a PUT of a tenant; an absent one is empty.
func decodeTenant(raw []byte, to *fsmpb.PutTenant) error {
	if raw == nil {
		return nil
	}
	d := &strict{}
	d.object("", raw, map[string]field{"labels": d.labels(&to.Labels)})
	return d.err()
}

// decodeFleet reads the body of a PUT of a fleet; an absent one is empty.
func decodeFleet(raw []byte, to *fsmpb.PutFleet) error {
	if raw == nil {
		return nil
	}
	d := &strict{}
	d.object("", raw, map[string]field{
		"labels": d.labels(&to.Labels),
		"settings": func(path string, raw json.RawMessage) {
			to.Settings = &fsmpb.FleetSettings{}
			d.object(path, raw, map[string]field{
				"revision_history_limit": into(d, &to.Settings.RevisionHistoryLimit, "a whole number"),
			})
			if n := to.Settings.RevisionHistoryLimit; n > maxHistoryLimit {
				d.fail(wire.CodeInvalid, join(path, "revision_history_limit"),
					"at most %d revisions stay in memory, not %d", maxHistoryLimit, n)
			}
		},
	})
	return d.err()
}

// decodeRollback reads the body of a rollback.
func decodeRollback(raw []byte, to *fsmpb.RollbackFleet) error {
	d := &strict{}
	if raw == nil {
		d.fail(wire.CodeInvalid, "", "a body with the revision to go back to is needed")
		return d.err()
	}
	d.object("", raw, map[string]field{
		"to":              into(d, &to.To, "the number of a revision"),
		"message":         d.text(&to.Message, maxMessageBytes),
		"expect_revision": d.expect(&to.ExpectRevision),
	})
	if to.To == 0 && len(d.errs) == 0 {
		d.fail(wire.CodeInvalid, "to", "the number of a revision is needed")
	}
	return d.err()
}

func (d *strict) expect(to **uint64) field {
	return func(path string, raw json.RawMessage) {
		var n uint64
		into(d, &n, "the number of a revision")(path, raw)
		*to = &n
	}
}

// decodeLeader reads the body of a leadership transfer; an absent one lets
// the cluster pick.
func decodeLeader(raw []byte) (wire.LeaderTransfer, error) {
	var to wire.LeaderTransfer
	if raw == nil {
		return to, nil
	}
	d := &strict{}
	d.object("", raw, map[string]field{"node": d.text(&to.Node, maxNameBytes)})
	return to, d.err()
}

// changeSet decodes a change set.
type changeSet struct {
	strict
	resources Resources
	to        *fsmpb.ChangeFleet
	// first has the path at which each resource was named first.
	first map[resourceID]string
}

// decodeChangeSet reads a change set with all its resources, and names every
// mistake.
func decodeChangeSet(raw []byte, resources Resources, to *fsmpb.ChangeFleet) error {
	c := &changeSet{resources: resources, to: to, first: map[resourceID]string{}}
	if raw == nil {
		c.fail(wire.CodeInvalid, "", "a change set is needed")
		return c.err()
	}
	c.object("", raw, map[string]field{
		"message":         c.text(&to.Message, maxMessageBytes),
		"expect_revision": c.expect(&to.ExpectRevision),
		"mode":            c.mode,
		"upsert":          c.list(c.upsert),
		"delete":          c.list(c.remove),
	})
	return c.err()
}

func (c *changeSet) mode(path string, raw json.RawMessage) {
	var mode string
	into(&c.strict, &mode, "a string")(path, raw)
	switch mode {
	case wire.ModeMerge, "":
	case wire.ModeReplace:
		c.to.Mode = fsmpb.ChangeFleet_REPLACE
	default:
		c.fail(wire.CodeInvalid, path, "%q is neither %s nor %s", mode, wire.ModeMerge, wire.ModeReplace)
	}
}

func (c *changeSet) upsert(path string, raw json.RawMessage) {
	res, problems := c.resources.Decode(path, raw)
	if len(problems) > 0 {
		c.errs = append(c.errs, problems...)
		return
	}
	if detail := checkFreeName(res.GetName()); detail != "" {
		c.fail(wire.CodeInvalidName, path+".name", "%s", detail)
		return
	}
	if c.once(path, res.GetTypeUrl(), res.GetName()) {
		c.to.Upsert = append(c.to.Upsert, res)
	}
}

func (c *changeSet) remove(path string, raw json.RawMessage) {
	var k wire.ResourceKey
	before := len(c.errs)
	c.object(path, raw, map[string]field{
		"type": into(&c.strict, &k.Type, "a string"),
		"name": into(&c.strict, &k.Name, "a string"),
	})
	if len(c.errs) > before {
		return
	}
	url := fsm.TypeURL(k.Type)
	switch {
	case !plausibleType(k.Type):
		c.fail(wire.CodeUnknownType, path+".type", "%q is neither a short type nor a type URL", k.Type)
	case url == fsm.TypeEndpoints || url == fsm.TypeSecret:
		c.fail(wire.CodeNotStaged, path+".type", "%s are live data and not part of a change set", k.Type)
	}
	if detail := checkFreeName(k.Name); detail != "" {
		c.fail(wire.CodeInvalidName, path+".name", "%s", detail)
	}
	if len(c.errs) == before && c.once(path, url, k.Name) {
		c.to.Delete = append(c.to.Delete, &fsmpb.ResourceKey{TypeUrl: url, Name: k.Name})
	}
}

// once refuses a resource that the change set has named before.
func (c *changeSet) once(path, url, name string) bool {
	k := resourceID{url, name}
	if earlier, twice := c.first[k]; twice {
		c.fail(wire.CodeDuplicateName, path,
			"%s %q is in the change set already, at %s", fsm.ShortType(url), name, earlier)
		return false
	}
	c.first[k] = path
	return true
}

// resourceID names one resource of a fleet.
type resourceID struct{ url, name string }

package fsm

import (
	"bytes"
	"fmt"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// defaultRevisionHistory is how many revisions of a fleet stay in memory.
const defaultRevisionHistory = 100

// revising is a fleet's next revision in the making.
type revising struct {
	t     *transition
	fleet *fsmpb.Fleet
	base  *Revision // nil before the first
	types []typeSet
	txns  map[string]*iradix.Txn[*fsmpb.Resource]
}

// revise begins the next revision of a fleet, after the checks that every
// change of one needs.
func (t *transition) revise(tenant, fleet string, expect *uint64) (*revising, *Error) {
	row, err := t.fleet(tenant, fleet)
	if err != nil {
		return nil, err
	}
	if expect != nil && *expect != row.Revision {
		return nil, Refusal(CodeRevisionConflict,
			"fleet %q is at revision %d, not %d", fleet, row.Revision, *expect)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	r := &revising{t: t, fleet: row, txns: map[string]*iradix.Txn[*fsmpb.Resource]{}}
	if base, ok := t.Revision(tenant, fleet, 0); ok {
		r.base, r.types = base, slices.Clone(base.types)
	}
	return r, nil
}

// txn returns the open set of a type.
func (r *revising) txn(url string) *iradix.Txn[*fsmpb.Resource] {
	if txn, ok := r.txns[url]; ok {
		return txn
	}
	tree := r.base.tree(url)
	if tree == nil {
		tree = iradix.New[*fsmpb.Resource]()
	}
	txn := tree.Txn()
	r.txns[url] = txn
	return txn
}

// upsert puts content under the entry's index unless it is there already.
func (r *revising) upsert(res *fsmpb.Resource) {
	txn, name := r.txn(res.TypeUrl), []byte(res.Name)
	if old, ok := r.base.Resource(res.TypeUrl, res.Name); ok && bytes.Equal(old.Hash, res.Hash) {
		if now, _ := txn.Get(name); now != old {
			txn.Insert(name, old)
		}
		return
	}
	row := &fsmpb.Resource{
		TypeUrl: res.TypeUrl, Name: res.Name, Body: res.Body, Hash: res.Hash,
		Version: Version(r.t.index, res.Hash), Index: r.t.index,
		Aliases: res.Aliases, TtlMs: res.TtlMs, References: res.References, Binds: res.Binds,
	}
	txn.Insert(name, row)
}

func (r *revising) remove(url, name string) {
	if _, ok := r.base.Resource(url, name); ok {
		r.txn(url).Delete([]byte(name))
	}
}

// removeOthers takes out all that is not listed.
func (r *revising) removeOthers(listed []*fsmpb.Resource) {
	stays := make(map[[2]string]bool, len(listed))
	for _, res := range listed {
		stays[[2]string{res.TypeUrl, res.Name}] = true
	}
	for _, url := range r.base.Types() {
		for res := range r.base.Resources(url) {
			if !stays[[2]string{url, res.Name}] {
				r.remove(url, res.Name)
			}
		}
	}
}

// close returns the sets by type. Untouched types keep their very trees.
func (r *revising) close() []typeSet {
	for url, txn := range r.txns {
		tree := txn.Commit()
		i, found := findType(r.types, url)
		switch {
		case tree.Len() == 0 && found:
			r.types = slices.Delete(r.types, i, i+1)
		case tree.Len() == 0:
		case found && tree.Root() == r.types[i].tree.Root():
		case found:
			r.types[i].tree = tree
		default:
			r.types = slices.Insert(r.types, i, typeSet{url, tree})
		}
	}
	return r.types
}

// finish returns the revision with what it changed.
func (r *revising) finish() *Revision {
	next := &Revision{types: r.close()}
	next.Info = &fsmpb.Revision{
		Tenant: r.fleet.Tenant, Fleet: r.fleet.Name, Revision: r.fleet.Revision + 1,
		Index: r.t.index, At: r.t.stamp, By: r.t.by,
		Changed: Diff(r.base, next),
	}
	return next
}

// wouldEmpty refuses to take all listeners or clusters from a fleet that had
// some.
func (r *revising) wouldEmpty(next *Revision) *Error {
	for _, url := range [...]string{TypeListener, TypeCluster} {
		if r.base.Len(url) > 0 && next.Len(url) == 0 {
			return Refusal(CodeWouldEmpty,
				"fleet %q would be left without any %s", r.fleet.Name, ShortType(url))
		}
	}
	return nil
}

// commit makes the revision the fleet's current one.
func (r *revising) commit(next *Revision) {
	t, info := r.t, next.Info
	row := &fsmpb.Fleet{
		Tenant: r.fleet.Tenant, Name: r.fleet.Name, Labels: r.fleet.Labels, Settings: r.fleet.Settings,
		Revision: info.Revision, CreatedIndex: r.fleet.CreatedIndex, Index: t.index,
	}
	t.fleets, _, _ = t.fleets.Insert(key(row.Tenant, row.Name), row)
	t.revisions, _, _ = t.revisions.Insert(revisionKey(row.Tenant, row.Name, row.Revision), next)
	t.forgetRevisions(row)
	var stored []*fsmpb.Resource
	for _, c := range info.Changed {
		if res, ok := next.Resource(c.TypeUrl, c.Name); ok {
			stored = append(stored, res)
		}
	}
	t.emit(&fsmpb.Event{
		Tenant: row.Tenant, Fleet: row.Name, Resources: stored,
		Data: &fsmpb.Event_RevisionCreated{RevisionCreated: &fsmpb.RevisionCreated{
			Revision: info.Revision, Message: info.Message, Changed: info.Changed, RollbackOf: info.RollbackOf,
		}},
	})
}

// forgetRevisions drops a fleet's revisions beyond its limit, oldest first.
func (t *transition) forgetRevisions(f *fsmpb.Fleet) {
	limit := uint64(f.GetSettings().GetRevisionHistoryLimit())
	if limit == 0 {
		limit = defaultRevisionHistory
	}
	for {
		oldest, ok := first(t.revisions, prefix(f.Tenant, f.Name))
		if !ok || oldest.Info.Revision+limit > f.Revision {
			return
		}
		t.revisions, _, _ = t.revisions.Delete(revisionKey(f.Tenant, f.Name, oldest.Info.Revision))
	}
}

func (t *transition) changeFleet(c *fsmpb.ChangeFleet) (*fsmpb.Result, *Error) {
	r, err := t.revise(c.GetTenant(), c.GetFleet(), c.ExpectRevision)
	if err != nil {
		return nil, err
	}
	if err := checkItems(c.Upsert); err != nil {
		return nil, err
	}
	if c.Mode == fsmpb.ChangeFleet_REPLACE {
		r.removeOthers(c.Upsert)
	}
	for _, k := range c.Delete {
		r.remove(k.TypeUrl, k.Name)
	}
	for _, res := range c.Upsert {
		r.upsert(res)
	}
	next := r.finish()
	next.Info.Message = c.Message
	warnings := next.missing(r.base, c.Upsert)
	if len(next.Info.Changed) == 0 {
		return &fsmpb.Result{Unchanged: true, Revision: r.fleet.Revision, Warnings: warnings}, nil
	}
	if err := r.wouldEmpty(next); err != nil && !c.Force {
		return nil, err
	}
	if err := next.conflicts(c.Upsert); err != nil {
		return nil, err
	}
	warnings = append(warnings, t.missingLive(c)...)
	r.commit(next)
	return &fsmpb.Result{
		Created: true, Revision: next.Info.Revision, Changed: next.Info.Changed, Warnings: warnings,
	}, nil
}

// checkItems refuses resources that no state could hold.
func checkItems(upsert []*fsmpb.Resource) *Error {
	for i, res := range upsert {
		if res.GetTypeUrl() == "" || res.GetName() == "" || len(res.GetHash()) == 0 {
			return Refusal(CodeInvalid, "upsert[%d] lacks a type, a name or a hash", i)
		}
	}
	return nil
}

func (t *transition) rollbackFleet(c *fsmpb.RollbackFleet) (*fsmpb.Result, *Error) {
	r, err := t.revise(c.GetTenant(), c.GetFleet(), c.ExpectRevision)
	if err != nil {
		return nil, err
	}
	target, ok := t.revisions.Get(revisionKey(c.Tenant, c.Fleet, c.To))
	if !ok {
		return nil, Refusal(CodeRevisionNotFound, "fleet %q has no revision %d in memory%s",
			c.Fleet, c.To, t.oldestRevision(c.Tenant, c.Fleet))
	}
	for _, change := range Diff(r.base, target) {
		if res, ok := target.Resource(change.TypeUrl, change.Name); ok {
			r.upsert(res)
		} else {
			r.remove(change.TypeUrl, change.Name)
		}
	}
	next := r.finish()
	next.Info.Message, next.Info.RollbackOf = c.Message, c.To
	if len(next.Info.Changed) == 0 {
		return &fsmpb.Result{Unchanged: true, Revision: r.fleet.Revision}, nil
	}
	if err := r.wouldEmpty(next); err != nil && !c.Force {
		return nil, err
	}
	r.commit(next)
	return &fsmpb.Result{Created: true, Revision: next.Info.Revision, Changed: next.Info.Changed}, nil
}

func (t *transition) oldestRevision(tenant, fleet string) string {
	if r, ok := first(t.revisions, prefix(tenant, fleet)); ok {
		return fmt.Sprintf("; the oldest is %d", r.Info.Revision)
	}
	return ""
}

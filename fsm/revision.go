package fsm

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Revision is one immutable set of a fleet's resources. It shares what it did
// not change with the revision before.
type Revision struct {
	// Info describes the revision. It is not to be modified.
	Info *fsmpb.Revision

	// types is ordered by URL and holds no empty set.
	types []typeSet
}

// typeSet holds the resources of one type, by name.
type typeSet struct {
	url  string
	tree *iradix.Tree[*fsmpb.Resource]
}

func findType(types []typeSet, url string) (int, bool) {
	return slices.BinarySearchFunc(types, url, func(t typeSet, u string) int {
		return cmp.Compare(t.url, u)
	})
}

func (r *Revision) tree(url string) *iradix.Tree[*fsmpb.Resource] {
	if r == nil {
		return nil
	}
	if i, ok := findType(r.types, url); ok {
		return r.types[i].tree
	}
	return nil
}

// Types returns the type URLs that the revision has resources of, in order.
func (r *Revision) Types() []string {
	if r == nil {
		return nil
	}
	urls := make([]string, len(r.types))
	for i, t := range r.types {
		urls[i] = t.url
	}
	return urls
}

// Resource returns the resource of a type by its name.
func (r *Revision) Resource(typeURL, name string) (*fsmpb.Resource, bool) {
	tree := r.tree(typeURL)
	if tree == nil {
		return nil, false
	}
	return tree.Get([]byte(name))
}

// Resources yields the resources of a type by name.
func (r *Revision) Resources(typeURL string) iter.Seq[*fsmpb.Resource] {
	return values(r.tree(typeURL), nil, "")
}

// Len returns how many resources of a type there are.
func (r *Revision) Len(typeURL string) int {
	tree := r.tree(typeURL)
	if tree == nil {
		return 0
	}
	return tree.Len()
}

// SameType reports whether both revisions hold the very same set of a type.
// It is cheap, and may be false for sets that happen to be equal.
func (r *Revision) SameType(o *Revision, typeURL string) bool {
	return r.tree(typeURL) == o.tree(typeURL)
}

// Diff returns what leads from one revision to the other, ordered by type URL
// and name. Either may be nil: the empty set.
func Diff(from, to *Revision) []*fsmpb.Change {
	urls := append(from.Types(), to.Types()...)
	slices.Sort(urls)
	var out []*fsmpb.Change
	for _, url := range slices.Compact(urls) {
		if from.SameType(to, url) {
			continue
		}
		out = append(out, diffType(url, from, to)...)
	}
	return out
}

func diffType(url string, from, to *Revision) []*fsmpb.Change {
	var out []*fsmpb.Change
	for old := range from.Resources(url) {
		if _, ok := to.Resource(url, old.Name); !ok {
			out = append(out, changeOf(old, nil))
		}
	}
	for now := range to.Resources(url) {
		old, _ := from.Resource(url, now.Name)
		if c := changeOf(old, now); c != nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, compareChanges)
	return out
}

// changeOf returns the difference between two contents of one name, nil when
// there is none. Either may be nil, not both.
func changeOf(old, now *fsmpb.Resource) *fsmpb.Change {
	switch {
	case now == nil:
		return &fsmpb.Change{Op: fsmpb.Change_REMOVED, TypeUrl: old.TypeUrl, Name: old.Name}
	case old == nil:
		return &fsmpb.Change{Op: fsmpb.Change_ADDED, TypeUrl: now.TypeUrl, Name: now.Name, Version: now.Version}
	case !bytes.Equal(old.Hash, now.Hash):
		return &fsmpb.Change{Op: fsmpb.Change_UPDATED, TypeUrl: now.TypeUrl, Name: now.Name, Version: now.Version}
	}
	return nil
}

func compareChanges(a, b *fsmpb.Change) int {
	return cmp.Or(cmp.Compare(a.TypeUrl, b.TypeUrl), cmp.Compare(a.Name, b.Name))
}

// NewRevision returns a revision out of its description and its resources, in
// any order: one that no state holds any more, from where it was written down.
func NewRevision(info *fsmpb.Revision, resources []*fsmpb.Resource) *Revision {
	r := &revising{txns: map[string]*iradix.Txn[*fsmpb.Resource]{}}
	for _, res := range resources {
		r.txn(res.TypeUrl).Insert([]byte(res.Name), res)
	}
	return &Revision{Info: info, types: r.close()}
}

package history

import (
	"path/filepath"
	"testing"
)

// The model finds what it is there to find. Operations are one after the
// other unless they say otherwise.
func TestModel(t *testing.T) {
	put := func(id int, end string) *Operation { return &Operation{ID: id, Kind: Put, Key: "s", End: end} }
	get := func(value int) *Operation { return &Operation{Kind: Get, Key: "s", End: Applied, Value: value} }
	last := func(revision uint64, value int) *Operation {
		return &Operation{Kind: Last, Key: "f", End: Applied, Revision: revision, Value: value}
	}
	appends := func(id int, end string, revision uint64) *Operation {
		return &Operation{ID: id, Kind: Append, Key: "f", End: end, Revision: revision}
	}
	cas := func(id int, expect uint64, end string, revision uint64) *Operation {
		return &Operation{ID: id, Kind: CAS, Key: "f", Expect: expect, End: end, Revision: revision}
	}
	for _, c := range []struct {
		name string
		ops  []*Operation
		ok   bool
	}{
		{"reads see writes", []*Operation{put(1, Applied), get(1), put(2, Applied), get(2)}, true},
		{"stale read", []*Operation{put(1, Applied), put(2, Applied), get(1)}, false},
		{"lost write", []*Operation{put(1, Applied), get(0)}, false},
		{"unknown, then seen", []*Operation{put(1, Applied), put(2, Unknown), get(1), get(2)}, true},
		{"unknown, seen and gone", []*Operation{put(1, Applied), put(2, Unknown), get(2), get(1)}, false},
		{"not applied, but seen", []*Operation{put(1, Applied), put(2, Nothing), get(2)}, false},
		{"compare and set", []*Operation{cas(1, 0, Applied, 1), cas(2, 0, Refused, 0), cas(3, 1, Applied, 2), last(2, 3)}, true},
		{"two from one revision", []*Operation{cas(1, 0, Applied, 1), cas(2, 0, Applied, 1)}, false},
		{"refused without a reason", []*Operation{cas(1, 0, Applied, 1), cas(2, 1, Refused, 0), last(1, 1)}, false},
		{"applied twice", []*Operation{appends(1, Applied, 1), appends(2, Applied, 3)}, false},
		{"unknown applied once", []*Operation{appends(1, Unknown, 0), appends(2, Applied, 2), last(2, 2)}, true},
		{"unknown applied twice", []*Operation{appends(1, Unknown, 0), appends(2, Applied, 3)}, false},
		{"refused, but seen", []*Operation{cas(1, 0, Applied, 1), cas(2, 0, Refused, 0), last(2, 2)}, false},
	} {
		for i, o := range c.ops {
			o.Call, o.Return = int64(2*i), int64(2*i+1)
		}
		err := Check(c.ops, filepath.Join(t.TempDir(), "drawing.html"))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

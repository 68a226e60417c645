package faults

import (
	"path/filepath"
	"testing"
)

// The model finds what it is there to find. Operations are one after the
// other unless they say otherwise.
func TestModel(t *testing.T) {
	put := func(id int, end string) *operation { return &operation{ID: id, Kind: opPut, Key: "s", End: end} }
	get := func(value int) *operation { return &operation{Kind: opGet, Key: "s", End: applied, Value: value} }
	last := func(revision uint64, value int) *operation {
		return &operation{Kind: opLast, Key: "f", End: applied, Revision: revision, Value: value}
	}
	appends := func(id int, end string, revision uint64) *operation {
		return &operation{ID: id, Kind: opAppend, Key: "f", End: end, Revision: revision}
	}
	cas := func(id int, expect uint64, end string, revision uint64) *operation {
		return &operation{ID: id, Kind: opCAS, Key: "f", Expect: expect, End: end, Revision: revision}
	}
	for _, c := range []struct {
		name string
		ops  []*operation
		ok   bool
	}{
		{"reads see writes", []*operation{put(1, applied), get(1), put(2, applied), get(2)}, true},
		{"stale read", []*operation{put(1, applied), put(2, applied), get(1)}, false},
		{"lost write", []*operation{put(1, applied), get(0)}, false},
		{"unknown, then seen", []*operation{put(1, applied), put(2, unknown), get(1), get(2)}, true},
		{"unknown, seen and gone", []*operation{put(1, applied), put(2, unknown), get(2), get(1)}, false},
		{"not applied, but seen", []*operation{put(1, applied), put(2, nothing), get(2)}, false},
		{"compare and set", []*operation{cas(1, 0, applied, 1), cas(2, 0, refused, 0), cas(3, 1, applied, 2), last(2, 3)}, true},
		{"two from one revision", []*operation{cas(1, 0, applied, 1), cas(2, 0, applied, 1)}, false},
		{"refused without a reason", []*operation{cas(1, 0, applied, 1), cas(2, 1, refused, 0), last(1, 1)}, false},
		{"applied twice", []*operation{appends(1, applied, 1), appends(2, applied, 3)}, false},
		{"unknown applied once", []*operation{appends(1, unknown, 0), appends(2, applied, 2), last(2, 2)}, true},
		{"unknown applied twice", []*operation{appends(1, unknown, 0), appends(2, applied, 3)}, false},
		{"refused, but seen", []*operation{cas(1, 0, applied, 1), cas(2, 0, refused, 0), last(2, 2)}, false},
	} {
		for i, o := range c.ops {
			o.Call, o.Return = int64(2*i), int64(2*i+1)
		}
		err := linearizable(c.ops, filepath.Join(t.TempDir(), "drawing.html"))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

package xds

import (
	"slices"
	"testing"
)

// A change of a few streams waits for some of a large one's, not for all; a
// stream that stands in the queue does not stand there twice.
func TestChangesHaveTheirTurn(t *testing.T) {
	many, few := make([]*stream, 3*share), []*stream{{}, {}}
	for i := range many {
		many[i] = &stream{}
	}
	var q queue
	q.add(slices.Clone(many))
	if got := q.next(); !slices.Equal(got, many[:share]) {
		t.Fatalf("%d streams first", len(got))
	}
	for _, st := range many[:share] {
		st.queued = false
	}
	q.add([]*stream{few[0], many[2*share], few[1], few[0]})
	q.add([]*stream{many[2*share], few[0]}) // all of them stand there
	again := many[0]
	q.add([]*stream{again})
	for _, want := range [][]*stream{many[share : 2*share], few, {again}, many[2*share:]} {
		if got := q.next(); !slices.Equal(got, want) {
			t.Fatalf("%d streams, not %d", len(got), len(want))
		}
	}
	if !q.empty() || q.next() != nil {
		t.Fatal("there are more")
	}
}

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// What an operation does, to a key of its kind.
const (
	opPut    = "put"    // endpoints of a service
	opGet    = "get"    // those, strongly
	opAppend = "append" // a change set, whatever the revision
	opCAS    = "cas"    // a change set with expect_revision
	opLast   = "last"   // the newest revision, strongly
)

// How an operation ended.
const (
	applied = "applied" // 2xx
	refused = "refused" // 409 revision_conflict
	nothing = "nothing" // 503 and the like, at every attempt: certainly not applied
	unknown = "unknown" // it may have been, or be later
)

// operation is one call of a client, whatever the number of attempts.
type operation struct {
	ID     int    `json:"id"`
	Client int    `json:"client"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	// Expect is the revision that a compare-and-set expects.
	Expect uint64 `json:"expect,omitempty"`

	Call   int64  `json:"call"`   // nanoseconds since the run began
	Return int64  `json:"return"` // the same
	End    string `json:"end"`
	// Value is the id of the operation whose write was read, 0 for none;
	// Revision and Index are those of the answer.
	Value    int    `json:"value,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	Index    uint64 `json:"index,omitempty"`
	// Attempts tells of every node that was asked.
	Attempts []string `json:"attempts"`
}

func (o *operation) writes() bool { return o.Kind == opPut || o.Kind == opAppend || o.Kind == opCAS }

// history is what the clients of a run did.
type history struct {
	began time.Time

	mu   sync.Mutex
	next int
	ops  []*operation
}

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// begin makes an operation with an id of its own.
func (h *history) begin(client int, kind, key string) *operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	return &operation{ID: h.next, Client: client, Kind: kind, Key: key, Call: h.now()}
}

// end keeps an operation.
func (h *history) end(o *operation, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.End, o.Return = how, h.now()
	h.ops = append(h.ops, o)
}

// take returns what was kept and begins anew; ids go on.
func (h *history) take() []*operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := h.ops
	h.ops = nil
	return ops
}

// summary counts operations by kind and end.
func summary(ops []*operation) map[string]int {
	counts := map[string]int{}
	for _, o := range ops {
		counts[o.Kind+" "+o.End]++
	}
	return counts
}

// save writes operations as lines of JSON.
func save(path string, ops []*operation) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := json.NewEncoder(f)
	for _, o := range ops {
		if err := lines.Encode(o); err != nil {
			return fmt.Errorf("save the history: %w", err)
		}
	}
	return nil
}

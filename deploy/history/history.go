package history

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// What an operation does, to a key of its kind.
const (
	Put    = "put"    // endpoints of a service
	Get    = "get"    // those, strongly
	Append = "append" // a change set, whatever the revision
	CAS    = "cas"    // a change set with expect_revision
	Last   = "last"   // the newest revision, strongly
)

// How an operation ended.
const (
	Applied = "applied" // 2xx
	Refused = "refused" // 409 revision_conflict
	Nothing = "nothing" // 503 and the like, at every attempt: certainly not applied
	Unknown = "unknown" // it may have been, or be later
)

// Operation is one call of a client, whatever the number of attempts.
type Operation struct {
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

// Writes reports whether the operation may change its key.
func (o *Operation) Writes() bool { return o.Kind == Put || o.Kind == Append || o.Kind == CAS }

// Recorder keeps what the clients of a run did.
type Recorder struct {
	began time.Time

	mu   sync.Mutex
	next int
	ops  []*Operation
}

// New makes a Recorder whose time begins now.
func New() *Recorder { return &Recorder{began: time.Now()} }

func (h *Recorder) now() int64 { return int64(time.Since(h.began)) }

// Begin makes an operation with an id of its own.
func (h *Recorder) Begin(client int, kind, key string) *Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	return &Operation{ID: h.next, Client: client, Kind: kind, Key: key, Call: h.now()}
}

// End keeps an operation.
func (h *Recorder) End(o *Operation, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.End, o.Return = how, h.now()
	h.ops = append(h.ops, o)
}

// Take returns what was kept and begins anew; ids go on.
func (h *Recorder) Take() []*Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := h.ops
	h.ops = nil
	return ops
}

// Summary counts operations by kind and end.
func Summary(ops []*Operation) map[string]int {
	counts := map[string]int{}
	for _, o := range ops {
		counts[o.Kind+" "+o.End]++
	}
	return counts
}

// Save writes operations as lines of JSON.
func Save(path string, ops []*Operation) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save the history: %w", err)
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

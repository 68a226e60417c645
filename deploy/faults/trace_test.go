package faults

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// trace is what was done to the cluster, and when.
type trace struct {
	began time.Time
	mu    sync.Mutex
	lines bytes.Buffer
}

func newTrace() *trace { return &trace{began: time.Now()} }

// note adds a line.
func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	fmt.Fprintf(&t.lines, "%8.3f %s ", now.Sub(t.began).Seconds(), now.UTC().Format("15:04:05.000"))
	fmt.Fprintf(&t.lines, format+"\n", args...)
}

func (t *trace) save(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return os.WriteFile(path, t.lines.Bytes(), 0o644)
}

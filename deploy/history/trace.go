package history

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Trace is what was done to the cluster, and when.
type Trace struct {
	began time.Time
	mu    sync.Mutex
	lines bytes.Buffer
}

// NewTrace makes a Trace whose time begins now.
func NewTrace() *Trace { return &Trace{began: time.Now()} }

// Note adds a line.
func (t *Trace) Note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	fmt.Fprintf(&t.lines, "%8.3f %s ", now.Sub(t.began).Seconds(), now.UTC().Format("15:04:05.000"))
	fmt.Fprintf(&t.lines, format+"\n", args...)
}

// Lines returns what was noted so far.
func (t *Trace) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Split(strings.TrimSuffix(t.lines.String(), "\n"), "\n")
}

// Save writes it to a file.
func (t *Trace) Save(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return os.WriteFile(path, t.lines.Bytes(), 0o600)
}

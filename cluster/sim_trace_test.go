package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simTrace is all that happened, in virtual time. It is put into words only
// when somebody wants to read it.
type simTrace struct {
	began  time.Time
	mu     sync.Mutex
	events []simEvent
}

type simEvent struct {
	at   time.Duration
	node string
	// what and args are a format; a message is told by its own words.
	what    string
	args    []any
	message *simMessage
}

func newSimTrace() *simTrace { return &simTrace{began: time.Now()} }

// note keeps what happened to a node. args must not change any more.
func (t *simTrace) note(node, what string, args ...any) {
	t.keep(simEvent{node: node, what: what, args: args})
}

// message keeps what became of a message.
func (t *simTrace) message(what string, m *simMessage) {
	t.keep(simEvent{node: m.link.from, what: what, message: m})
}

func (t *simTrace) keep(e simEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.at = time.Since(t.began)
	t.events = append(t.events, e)
}

// save writes the trace into a folder, and returns the file.
func (t *simTrace) save(dir string, seed uint64) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	for _, e := range t.events {
		fmt.Fprintf(&b, "%10.4f %-4s ", e.at.Seconds(), e.node)
		if e.message != nil {
			fmt.Fprintf(&b, "%-7s -> %s %s\n", e.what, e.message.link.to, words(e.message))
		} else {
			fmt.Fprintf(&b, e.what+"\n", e.args...)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("save the trace: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("trace-%d.log", seed))
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return "", fmt.Errorf("save the trace: %w", err)
	}
	return path, nil
}

// words tells of a message; its pointer tells one that comes twice.
func words(m *simMessage) string {
	text := ""
	switch r := m.command.(type) {
	case *raft.AppendEntriesRequest:
		text = fmt.Sprintf("append term %d after %d/%d, commit %d:", r.Term, r.PrevLogEntry, r.PrevLogTerm, r.LeaderCommitIndex)
		for _, e := range r.Entries {
			text += fmt.Sprintf(" %d/%d %s", e.Index, e.Term, strings.TrimPrefix(e.Type.String(), "Log"))
		}
		if len(r.Entries) == 0 {
			text += " nothing"
		}
	case *raft.RequestVoteRequest:
		text = fmt.Sprintf("vote term %d, last %d/%d, transfer %v", r.Term, r.LastLogIndex, r.LastLogTerm, r.LeadershipTransfer)
	case *raft.RequestPreVoteRequest:
		text = fmt.Sprintf("pre-vote term %d, last %d/%d", r.Term, r.LastLogIndex, r.LastLogTerm)
	case *raft.InstallSnapshotRequest:
		text = fmt.Sprintf("snapshot term %d, last %d/%d, %d bytes", r.Term, r.LastLogIndex, r.LastLogTerm, r.Size)
	case *raft.TimeoutNowRequest:
		text = "timeout now"
	}
	return fmt.Sprintf("%s (%p)", text, m)
}

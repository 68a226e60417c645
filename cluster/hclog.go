package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatAfter is how long a warning that was just logged is left out: Raft
// says that a peer is unreachable dozens of times a second.
const repeatAfter = 10 * time.Second

// raftLog gives Raft's log records to slog.
type raftLog struct {
	hclog.Logger // for the methods that Raft never calls
	log          *slog.Logger
	seen         *seen
	args         []any
}

// seen holds when each warning was last logged.
type seen struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newRaftLog(l *slog.Logger) hclog.Logger {
	return &raftLog{Logger: hclog.NewNullLogger(), log: l, seen: &seen{last: map[string]time.Time{}}}
}

// fresh reports whether a message has not been logged for a while.
func (s *seen) fresh(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.last[msg]) < repeatAfter {
		return false
	}
	if len(s.last) > 1000 {
		clear(s.last)
	}
	s.last[msg] = now
	return true
}

// Log implements hclog.Logger.
func (r *raftLog) Log(level hclog.Level, msg string, args ...any) {
	var to slog.Level
	switch level {
	case hclog.NoLevel, hclog.Off, hclog.Trace, hclog.Debug:
		to = slog.LevelDebug
	case hclog.Info:
		to = slog.LevelDebug
	case hclog.Warn:
		to = slog.LevelInfo
	case hclog.Error:
		to = slog.LevelWarn
	}
	if !r.log.Enabled(context.Background(), to) || (level >= hclog.Warn && !r.seen.fresh(msg)) {
		return
	}
	attrs := make([]any, 0, len(r.args)+len(args))
	for _, list := range [][]any{r.args, args} {
		for i := 0; i+1 < len(list); i += 2 {
			attrs = append(attrs, slog.Any(key(list[i]), value(list[i+1])))
		}
	}
	r.log.Log(context.Background(), to, "raft: "+msg, attrs...) //nolint:sloglint // the text is Raft's
}

func key(k any) string {
	return string(bytes.ReplaceAll([]byte(fmt.Sprint(k)), []byte{'-'}, []byte{'_'}))
}

func value(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) == 0 {
			return ""
		}
		return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
	case error, fmt.Stringer, string, bool, int, int64, uint64:
		return v
	}
	return fmt.Sprint(v)
}

// Trace implements hclog.Logger.
func (r *raftLog) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (r *raftLog) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (r *raftLog) Info(msg string, args ...any) { r.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (r *raftLog) Warn(msg string, args ...any) { r.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (r *raftLog) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

// With implements hclog.Logger.
func (r *raftLog) With(args ...any) hclog.Logger {
	c := *r
	c.args = append(append([]any{}, r.args...), args...)
	return &c
}

// Named implements hclog.Logger.
func (r *raftLog) Named(string) hclog.Logger { return r }

// ResetNamed implements hclog.Logger.
func (r *raftLog) ResetNamed(string) hclog.Logger { return r }

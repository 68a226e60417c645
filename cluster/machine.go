package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// machine is Raft's state machine: it applies batches of entries, publishes
// the state after each batch as one pointer and wakes who waits for it.
type machine struct {
	log       *slog.Logger
	observers []Observer
	metrics   *metrics

	state   atomic.Pointer[fsm.State]
	waiters waiters

	// supports is the highest feature level that the binary knows.
	supports uint32
	// refused is told of the first level above that.
	refused func(error)
	// stopped is why nothing more is applied, nil while everything is: the log
	// needs a newer binary, or the node stops before it has an entry's backup.
	stopped atomic.Pointer[error]
	// raised has room for one word of a risen level.
	raised chan struct{}

	// mu admits one applier: Raft, or getAhead before Raft has a quorum.
	mu sync.Mutex
	// find returns the state of a backup that an entry needs; nil when the node
	// stops first.
	find func(checksum) *fsm.State
	// ahead is the last entry that is applied while Raft has yet to hand it over,
	// for the first time (getAhead) or again (restored); 0 for none.
	ahead uint64
}

var _ raft.BatchingFSM = (*machine)(nil)

func newMachine(log *slog.Logger, observers []Observer, m *metrics, supports uint32, refused func(error)) *machine {
	k := &machine{
		log: log, observers: observers, metrics: m, supports: supports, refused: refused, raised: make(chan struct{}, 1),
	}
	k.state.Store(fsm.New())
	return k
}

// Apply implements raft.FSM.
func (k *machine) Apply(l *raft.Log) any { return k.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. Each answer is the []*fsmpb.Result
// of that entry's commands.
func (k *machine) ApplyBatch(logs []*raft.Log) []any {
	k.mu.Lock()
	defer k.mu.Unlock()
	answers := k.apply(logs)
	if len(logs) > 0 && logs[len(logs)-1].Index >= k.ahead {
		k.ahead = 0
	}
	return answers
}

// apply applies the entries that are not applied yet; k.mu is held.
func (k *machine) apply(logs []*raft.Log) []any {
	began := time.Now()
	answers := make([]any, len(logs))
	before := k.state.Load()
	state := before
	events, all := []*fsmpb.Event{}, false
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= k.ahead || k.stopped.Load() != nil {
			continue
		}
		entry := &fsmpb.Entry{}
		if err := proto.Unmarshal(l.Data, entry); err != nil {
			// The same on every node: an entry without commands.
			k.log.Error("an entry of the Raft log is not ours", "index", l.Index, "error", err)
			entry.Reset()
		}
		if k.refuses(l.Index, entry) {
			continue
		}
		at, ok := k.backupsFor(entry)
		if !ok {
			continue
		}
		all = all || len(at) > 0
		var results []*fsmpb.Result
		var more []*fsmpb.Event
		state, results, more = state.ApplyWith(l.Index, entry, func(sha256 []byte) *fsm.State { return at[string(sha256)] })
		answers[i] = results
		events = append(events, more...)
	}
	if all {
		events = nil
	}
	if state != before {
		k.publish(state, events)
	}
	k.metrics.applySeconds.Observe(time.Since(began).Seconds())
	return answers
}

var errStops = errors.New("the node stops, and has not applied all that Raft handed over")

// backupsFor returns the states of the backups that an entry needs. It stops the
// machine when the node ends before they are here: every replica must apply the
// entry alike.
func (k *machine) backupsFor(entry *fsmpb.Entry) (at map[string]*fsm.State, ok bool) {
	for _, name := range fsm.Backups(entry) {
		sum, ok := checksumOf(name)
		if !ok {
			continue // refused everywhere
		}
		st := k.find(sum)
		if st == nil {
			k.stop(errStops)
			return nil, false
		}
		if at == nil {
			at = map[string]*fsm.State{} // hardly any entry needs one
		}
		at[string(name)] = st
	}
	return at, true
}

// stop ends the applying; the first reason counts.
func (k *machine) stop(why error) (first bool) { return k.stopped.CompareAndSwap(nil, &why) }

// begin lets a machine whose node stopped go on, with Raft started anew.
func (k *machine) begin(find func(checksum) *fsm.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.find = find
	k.stopped.Store(nil)
}

func (k *machine) publish(state *fsm.State, events []*fsmpb.Event) {
	before := k.state.Swap(state)
	if level := state.FeatureLevel(); level > before.FeatureLevel() {
		k.log.Info("at a new feature level", "level", level, "index", state.LevelIndex())
		select {
		case k.raised <- struct{}{}:
		default:
		}
	}
	k.waiters.reached(state.Index())
	for _, o := range k.observers {
		o.Applied(state, events)
	}
}

// Snapshot implements raft.FSM: the state is immutable.
func (k *machine) Snapshot() (raft.FSMSnapshot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if why := k.stopped.Load(); why != nil {
		return nil, *why
	}
	if k.ahead > 0 {
		return nil, fmt.Errorf("no snapshot before Raft has reached index %d, which the state has", k.ahead)
	}
	return &snapshot{state: k.state.Load(), metrics: k.metrics}, nil
}

// Restore implements raft.FSM.
func (k *machine) Restore(r io.ReadCloser) error {
	state, err := fsm.ReadSnapshot(r)
	if err != nil {
		err = fmt.Errorf("restore: %w", err)
		if errors.Is(err, fsm.ErrNewerSnapshot) {
			k.refuse(err)
		}
		return err
	}
	k.restored(state)
	return nil
}

// restored makes a snapshot's state the present one, unless that is newer:
// Raft takes an older snapshot from a leader, and is started anew from the
// newest one on disk. What was applied was committed, so it stays, and Raft's
// copies of it are passed over.
func (k *machine) restored(state *fsm.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.state.Load().Index(); now > state.Index() {
		k.ahead = now
		return
	}
	k.ahead = 0
	k.publish(state, nil)
}

// refuses reports whether an entry sets a level that the binary does not know.
func (k *machine) refuses(index uint64, e *fsmpb.Entry) bool {
	level := fsm.EntryLevel(e)
	if level > k.supports {
		k.refuse(fmt.Errorf("the log needs a newer binary: feature level %d from index %d on; this one supports %d", level, index, k.supports))
	}
	return level > k.supports
}

func (k *machine) refuse(err error) {
	if k.stop(err) {
		k.refused(err)
	}
}

// wait returns the state once it has reached an index.
func (k *machine) wait(ctx context.Context, index uint64) (*fsm.State, error) {
	if st := k.state.Load(); st.Index() >= index {
		return st, nil
	}
	w := k.waiters.add(index)
	defer k.waiters.remove(w)
	// Between the first look and the add the state may have moved.
	if st := k.state.Load(); st.Index() >= index {
		return st, nil
	}
	select {
	case <-w.done:
		return k.state.Load(), nil
	case <-ctx.Done():
		return nil, fsm.Refusal(fsm.CodeTimeout, "the node has not applied index %d yet, it is at %d", index, k.state.Load().Index())
	}
}

// snapshot writes one state while later ones are applied.
type snapshot struct {
	state   *fsm.State
	metrics *metrics
}

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	began := time.Now()
	if err := s.state.WriteSnapshot(sink); err != nil {
		_ = sink.Cancel() // the first error counts
		return err
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("close snapshot: %w", err)
	}
	s.metrics.snapshotSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}

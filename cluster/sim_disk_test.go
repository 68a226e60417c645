package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simDisk keeps Raft's log and vote. A write takes its time, and is durable as
// a whole when it returns; a crash decides about each write under way by itself.
type simDisk struct {
	net *simNet

	mu      sync.Mutex
	image   *simImage
	pending map[*simWrite]struct{}
	delay   time.Duration
	hang    chan struct{} // closed when writes go on; nil: they do not hang
	fail    error
	full    error // of the log alone: the vote has its room
	// forgets makes the disk a liar: a crash takes back the newest write of the
	// log ("log") or of the vote ("vote").
	forgets string
}

// simImage is what is on the disk.
type simImage struct {
	logs        map[uint64]*raft.Log
	first, last uint64
	kv          map[string][]byte
	// before undoes the newest write of each kind.
	before map[string]func(*simImage)
}

type simWrite struct{ do func(*simImage) }

func newSimDisk(n *simNet, forgets string) *simDisk {
	return &simDisk{
		net: n, forgets: forgets, pending: map[*simWrite]struct{}{},
		image: &simImage{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}, before: map[string]func(*simImage){}},
	}
}

// open implements store.Files. The node looks for the names of the files.
func (d *simDisk) open(dir string) (raft.LogStore, raft.StableStore, func() error, error) {
	for _, name := range []string{"raft.db", "vote.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			return nil, nil, nil, fmt.Errorf("open a simulated disk: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &simStore{disk: d, image: d.image}
	return s, s, func() error { return nil }, nil
}

// set changes how the disk is.
func (d *simDisk) set(do func(*simDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do(d)
}

// heal ends what a fault has begun.
func (d *simDisk) heal() {
	d.set(func(d *simDisk) {
		d.delay, d.fail, d.full = 0, nil, nil
		if d.hang != nil {
			close(d.hang)
			d.hang = nil
		}
	})
}

// crash leaves on the disk what was durable, and of what was not some. Who has
// it open goes on with a copy that nobody sees.
func (d *simDisk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.image
	d.image = &simImage{logs: maps.Clone(old.logs), first: old.first, last: old.last, kv: maps.Clone(old.kv), before: map[string]func(*simImage){}}
	for w := range d.pending {
		if d.net.often(500) {
			w.do(d.image)
		}
	}
	if undo := old.before[d.forgets]; undo != nil {
		undo(d.image)
	}
	d.pending = map[*simWrite]struct{}{}
	if d.hang != nil {
		close(d.hang)
		d.hang = nil
	}
}

// write makes one write durable on an image.
func (d *simDisk) write(on *simImage, log bool, do func(*simImage)) error {
	w := &simWrite{do}
	d.mu.Lock()
	delay, hang := d.delay, d.hang
	if on == d.image {
		d.pending[w] = struct{}{}
	}
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(d.net.upTo(delay))
	}
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, w)
	switch {
	case on != d.image: // of a node that has crashed
	case d.fail != nil:
		return d.fail
	case log && d.full != nil:
		return d.full
	}
	do(on)
	return nil
}

// simStore is a disk that a node has open.
type simStore struct {
	disk  *simDisk
	image *simImage
}

// FirstIndex implements raft.LogStore.
func (s *simStore) FirstIndex() (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.image.first, nil
}

// LastIndex implements raft.LogStore.
func (s *simStore) LastIndex() (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.image.last, nil
}

// GetLog implements raft.LogStore.
func (s *simStore) GetLog(index uint64, into *raft.Log) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	l, ok := s.image.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*into = *l
	return nil
}

// StoreLog implements raft.LogStore.
func (s *simStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *simStore) StoreLogs(logs []*raft.Log) error {
	return s.disk.write(s.image, true, func(i *simImage) {
		for _, l := range logs {
			c := *l
			i.logs[l.Index] = &c
			if i.first == 0 || l.Index < i.first {
				i.first = l.Index
			}
			i.last = max(i.last, l.Index)
		}
		i.before["log"] = func(i *simImage) { i.cut(logs[0].Index, i.last) }
	})
}

// DeleteRange implements raft.LogStore.
func (s *simStore) DeleteRange(first, last uint64) error {
	return s.disk.write(s.image, true, func(i *simImage) { i.cut(first, last) })
}

// cut takes entries from one end of the log, or all.
func (i *simImage) cut(first, last uint64) {
	for index := first; index <= last; index++ {
		delete(i.logs, index)
	}
	switch {
	case len(i.logs) == 0:
		i.first, i.last = 0, 0
	case last >= i.last:
		i.last = first - 1
	case first <= i.first:
		i.first = last + 1
	}
}

// Set implements raft.StableStore.
func (s *simStore) Set(key, value []byte) error {
	return s.disk.write(s.image, false, func(i *simImage) {
		old, k := i.kv[string(key)], string(key)
		i.kv[k] = value
		if k == "Vote" {
			i.before["vote"] = func(i *simImage) { i.kv[k] = old }
		}
	})
}

// Get implements raft.StableStore.
func (s *simStore) Get(key []byte) ([]byte, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if v := s.image.kv[string(key)]; v != nil {
		return v, nil
	}
	return nil, errors.New("not found") // the text by which Raft knows it
}

// SetUint64 implements raft.StableStore.
func (s *simStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (s *simStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Keys that Raft writes a vote under, one after the other.
const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	// keyVote holds both.
	keyVote = "Vote"
	// keyTerm is where Raft keeps its term.
	keyTerm = "CurrentTerm"
)

// errNotFound has the text by which Raft knows it.
var errNotFound = errors.New("not found")

// Stable is a raft.StableStore whose votes cannot tear. Raft stores the term
// of a vote first and the candidate in a second write; a crash between the two
// would leave the new term beside the candidate of an older vote, and the node
// would grant that one the new term unseen. Here the term waits in memory for
// its candidate.
//
// Raft's main loop alone calls it.
type Stable struct {
	store raft.StableStore
	watch *Watch
	// term of a vote whose candidate has not come yet.
	term    uint64
	pending bool
}

var _ raft.StableStore = (*Stable)(nil)

// NewStable wraps store.
func NewStable(store raft.StableStore, watch *Watch) *Stable {
	return &Stable{store: store, watch: watch}
}

// SetUint64 implements raft.StableStore.
func (s *Stable) SetUint64(key []byte, value uint64) error {
	if string(key) == keyVoteTerm {
		s.term, s.pending = value, true
		return nil
	}
	if string(key) == keyTerm && s.hasTerm(value) {
		return nil
	}
	return s.write(func() error { return s.store.SetUint64(key, value) })
}

// hasTerm reports whether the store has this term, 0 when it has none. Raft
// writes the one that is there when it starts, and panics if it cannot.
func (s *Stable) hasTerm(term uint64) bool {
	now, err := s.store.GetUint64([]byte(keyTerm))
	return now == term && (err == nil || term == 0)
}

// write stores, or waits for the end once the disk has failed: what it then
// returns goes nowhere.
func (s *Stable) write(do func() error) error {
	err := s.watch.write(do)
	if s.watch.Failed() == nil {
		return err
	}
	s.watch.hold()
	return nil
}

// Set implements raft.StableStore.
func (s *Stable) Set(key, value []byte) error {
	if string(key) != keyVoteCandidate {
		return s.write(func() error { return s.store.Set(key, value) })
	}
	if !s.pending {
		return errors.New("store vote: a candidate without a term")
	}
	vote := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(value)), s.term)
	vote = append(vote, value...)
	if err := s.write(func() error { return s.store.Set([]byte(keyVote), vote) }); err != nil {
		return fmt.Errorf("store vote: %w", err)
	}
	s.pending = false
	return nil
}

// GetUint64 implements raft.StableStore.
func (s *Stable) GetUint64(key []byte) (uint64, error) {
	if string(key) != keyVoteTerm {
		return s.store.GetUint64(key)
	}
	term, _, err := s.vote()
	return term, err
}

// Get implements raft.StableStore.
func (s *Stable) Get(key []byte) ([]byte, error) {
	if string(key) != keyVoteCandidate {
		return s.store.Get(key)
	}
	_, candidate, err := s.vote()
	return candidate, err
}

func (s *Stable) vote() (term uint64, candidate []byte, err error) {
	vote, err := s.store.Get([]byte(keyVote))
	if err != nil {
		return 0, nil, err
	}
	if len(vote) < 8 {
		return 0, nil, errNotFound
	}
	return binary.BigEndian.Uint64(vote), vote[8:], nil
}

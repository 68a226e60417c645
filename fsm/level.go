package fsm

import "github.com/org/envoy-control-plane/fsm/fsmpb"

// Feature levels. A state's own level decides which commands it knows, how they
// behave and what its snapshots hold, never the binary. The level comes from
// the log and only rises.
const (
	// BaseLevel is that of a state whose log names none.
	BaseLevel = 1
	// LevelReadOnly knows SetReadOnly and RestoreState.
	LevelReadOnly = 2
	// LevelConvergence knows what ReportProxies says of convergence. Below, a
	// binary of that level does not see it, and the others look away.
	LevelConvergence = 3
	// LevelMembership knows RecordMembership.
	LevelMembership = 4
	// SupportedLevel is the highest that this binary knows.
	SupportedLevel = 4
)

// FeatureLevel returns the level that decides how commands behave.
func (s *State) FeatureLevel() uint32 { return s.level }

// LevelIndex returns the log index at which the state has come to its level, 0
// when it has been there from the start. A binary that does not support the
// level refuses every snapshot from there on.
func (s *State) LevelIndex() uint64 { return s.levelIndex }

// RequiredLevel returns the lowest level at which a command is known.
func RequiredLevel(c *fsmpb.Command) uint32 {
	switch c.GetOp().(type) {
	case *fsmpb.Command_SetReadOnly, *fsmpb.Command_RestoreState:
		return LevelReadOnly
	case *fsmpb.Command_RecordMembership:
		return LevelMembership
	}
	return BaseLevel
}

// EntryLevel returns the highest level that an entry sets, 0 for none. A binary
// that does not support it must not apply the entry, nor any behind it.
func EntryLevel(e *fsmpb.Entry) uint32 {
	level := uint32(0)
	for _, c := range e.GetCommands() {
		level = max(level, c.GetRaiseLevel().GetLevel(), c.GetInitCluster().GetFeatureLevel())
	}
	return level
}

// supported refuses a level that must have stopped whoever applies the entry.
func supported(level uint32) *Error {
	if level <= SupportedLevel {
		return nil
	}
	return Refusal(CodeLevelUnsupported, "feature level %d is above %d, which this binary supports", level, SupportedLevel)
}

func (t *transition) raiseLevel(c *fsmpb.RaiseLevel) (*fsmpb.Result, *Error) {
	if err := supported(c.GetLevel()); err != nil {
		return nil, err
	}
	if !t.setLevel(c.GetLevel()) {
		return &fsmpb.Result{Unchanged: true, Index: t.levelIndex}, nil
	}
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_LevelRaised{LevelRaised: &fsmpb.LevelRaised{Level: t.level}}})
	return &fsmpb.Result{}, nil
}

// setLevel raises the level and reports whether that was a change.
func (t *transition) setLevel(level uint32) bool {
	if level <= t.level {
		return false
	}
	t.level, t.levelIndex = level, t.index
	return true
}

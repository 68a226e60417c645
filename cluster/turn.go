package cluster

// turn is a mutex that may be held while time passes. Who waits for it waits
// for a channel, which simulated time knows of, as it does not of a sync.Mutex.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// Lock implements sync.Locker.
func (t turn) Lock() { t <- struct{}{} }

// Unlock implements sync.Locker.
func (t turn) Unlock() { <-t }

// TryLock takes the turn if it is free.
func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

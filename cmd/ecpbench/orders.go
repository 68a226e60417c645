package main

import "time"

// applyEvery is the time between the applies of an order.
const applyEvery = time.Millisecond

// changes makes changes at a rate. Those that are late are made at once, so
// that their number is what was ordered.
func changes(b backend, o order) (last int64, err error) {
	began := time.Now()
	for n := range o.Count {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(o.Rate))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if err := b.change(o.Change + n); err != nil {
			return 0, err
		}
	}
	return time.Now().UnixNano(), nil
}

// applier is a backend with a state, of which a change that concerns nobody
// shows what changes cost.
type applier interface{ apply() error }

// applies times some changes that concern nobody; none where there is no state.
func applies(b backend, count int) (took []time.Duration, err error) {
	of, ok := b.(applier)
	if !ok {
		return nil, nil
	}
	for range count {
		time.Sleep(applyEvery)
		began := time.Now()
		if err := of.apply(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

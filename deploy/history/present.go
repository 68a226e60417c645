package history

import (
	"errors"
	"fmt"
)

// Present holds the change sets of a history against the revisions of a final
// state, by the operation that made them: each that was acknowledged is there
// under its number, each at most once, and none that was not applied.
func Present(ops []*Operation, found map[int][]uint64) error {
	var errs []error
	for _, o := range ops {
		if o.Kind != Append && o.Kind != CAS {
			continue
		}
		got := found[o.ID]
		if err := Counted(o, len(got)); err != nil {
			errs = append(errs, fmt.Errorf("state: %w", err))
		} else if o.End == Applied && got[0] != o.Revision {
			errs = append(errs, fmt.Errorf("operation %d was acknowledged as revision %d and is %d", o.ID, o.Revision, got[0]))
		}
	}
	return errors.Join(errs...)
}

// Counted says what is wrong with how often a write is there.
func Counted(o *Operation, times int) error {
	if times == 0 && o.End != Applied || times == 1 && (o.End == Applied || o.End == Unknown) {
		return nil
	}
	return fmt.Errorf("operation %d (%s %s, %s) is there %d times: %q", o.ID, o.Kind, o.Key, o.End, times, o.Attempts)
}

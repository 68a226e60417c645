package backup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// leftAfter is the age from which on what an attempt has left is rubbish: no
// other leader can be at it still.
const leftAfter = time.Hour

// tidy removes the backups that need not stay beside good, which was made and
// verified just now, and what failed attempts have left.
func (t *tenure) tidy(ctx context.Context, found []Backup, good Backup) error {
	ctx, moved, cancel := whileMoving(ctx)
	defer cancel()
	var errs []error
	kept := len(found)
	for _, b := range t.old(found, good) {
		if err := t.cfg.Target.Remove(ctx, b.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		kept--
		moved()
		t.log.Info("old backup removed", "target", t.cfg.Target.String(), "name", b.Name)
	}
	t.metrics.kept.Set(float64(kept))
	errs = append(errs, t.cfg.Target.Sweep(ctx, prefixOf(good.Cluster), time.Now().Add(-leftAfter)))
	if err := errors.Join(errs...); err != nil {
		t.metrics.failures.Inc()
		err = fmt.Errorf("what is old stays: %w", because(ctx, err))
		t.log.Warn("the target was not tidied up", "target", t.cfg.Target.String(), "error", err)
		return err
	}
	return nil
}

// old returns what need not stay. Damaged ones are not counted.
func (t *tenure) old(found []Backup, good Backup) []Backup {
	if t.cfg.Keep == 0 {
		return nil
	}
	newestFirst(found)
	var out []Backup
	kept := 1 // good
	for _, b := range found {
		switch {
		case b.Name == good.Name:
		case t.verdicts[b.Name] == nil && kept < t.cfg.Keep:
			kept++
		case time.Since(b.At) >= t.cfg.KeepFor:
			out = append(out, b)
		}
	}
	return out
}

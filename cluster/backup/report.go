package backup

import (
	"fmt"
	"time"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// view is what a leader knows of the backups.
type view struct {
	leading bool
	since   time.Time
	// last is the newest backup that was verified.
	last Backup
	// fault is why the last attempt failed; failing is when the first of
	// those in a row did.
	fault   error
	failing time.Time
	// untidy is why not all is removed that should be.
	untidy error
}

func (k *Keeper) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = view{leading: true, since: time.Now()}
}

func (k *Keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = view{}
}

func (k *Keeper) failed(err error) {
	k.metrics.failures.Inc()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now.fault == nil {
		k.now.failing = time.Now()
	}
	k.now.fault = err
}

func (k *Keeper) succeeded(last Backup, untidy error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now.last, k.now.fault, k.now.untidy = last, nil, untidy
	k.last = last
}

// newestKnown is for the metrics.
func (k *Keeper) newestKnown() Backup {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// Report says how the backups of the cluster do; nil when the node does not
// lead it, and so does not know.
func (k *Keeper) Report() *fsmpb.BackupReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.now
	if !v.leading {
		return nil
	}
	r := &fsmpb.BackupReport{Target: k.cfg.Target.String(), State: fsmpb.BackupReport_OK}
	if v.last.Name != "" {
		r.Name, r.Index, r.Bytes, r.At = v.last.Name, v.last.Index, uint64(v.last.Size), v.last.At.UnixNano()
	}
	switch late := k.late(); {
	case v.fault != nil:
		r.State = fsmpb.BackupReport_FAILING
		r.Reason = fmt.Sprintf("backups have failed since %s: %v", v.failing.UTC().Format(time.RFC3339), v.fault)
	case late > 0:
		r.State = fsmpb.BackupReport_OVERDUE
		r.Reason = fmt.Sprintf("a backup is overdue for %s", late.Round(time.Second))
	case v.untidy != nil:
		r.Reason = v.untidy.Error()
	}
	return r
}

// late says for how long a backup has been due, if that is longer than half of
// the interval.
func (k *Keeper) late() time.Duration {
	due := k.now.since
	if k.now.last.Name != "" {
		due = k.now.last.At.Add(k.cfg.Every)
	}
	if late := time.Since(due); late > k.cfg.Every/2 {
		return late
	}
	return 0
}

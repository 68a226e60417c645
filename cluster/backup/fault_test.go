package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// faulty is a directory with faults, as far as they are set.
type faulty struct {
	directory
	remove func(name string) error
	// flip damages what is stored; unreadable keeps it from being read.
	flip, unreadable atomic.Bool
	// hang keeps Put until it is closed, or the context ends when deaf is not
	// set.
	hang chan struct{}
	deaf bool
	puts atomic.Int32
}

func (f *faulty) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	f.puts.Add(1)
	if f.hang != nil {
		gone := ctx.Done()
		if f.deaf {
			gone = nil
		}
		select {
		case <-f.hang:
		case <-gone:
			return ctx.Err()
		}
	}
	if f.flip.Load() {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		r = bytes.NewReader(b)
	}
	return f.directory.Put(ctx, name, size, r)
}

func (f *faulty) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if f.unreadable.Load() {
		return nil, syscall.EIO
	}
	return f.directory.Open(ctx, name)
}

func (f *faulty) Remove(ctx context.Context, name string) error {
	if f.remove != nil {
		return f.remove(name)
	}
	return f.directory.Remove(ctx, name)
}

// A failure is told with its reason, counted, and tried again long before the
// next interval.
func TestFailureIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "not-mounted")
		k := newKeeper(t, &directory{dir}, newLeading(t, "c1", 1), nil)
		stop := runs(t, k)
		defer stop()
		time.Sleep(20 * time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_FAILING || !strings.Contains(r.Reason, "no such file or directory") ||
			!strings.Contains(r.Reason, "since 2000-01-01T00:00:00Z") {
			t.Errorf("%v", r)
		}
		// After 5, 10, 20, 40, 80, 160 s, then each 5 minutes.
		if n := testutil.ToFloat64(k.metrics.failures); n != 9 {
			t.Errorf("%v failures in 20 minutes", n)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_OK || r.Reason != "" || len(names(t, dir)) != 1 {
			t.Errorf("%v, %q", r, names(t, dir))
		}
	})
}

// A backup that cannot be read is tried again while it would count, and not
// written again; it does not keep the next one from being made.
func TestBackupThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &faulty{directory: directory{t.TempDir()}}
		to.unreadable.Store(true)
		k := newKeeper(t, to, newLeading(t, "c1", 1), nil)
		stop := runs(t, k)
		defer stop()
		time.Sleep(30 * time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_FAILING || !strings.Contains(r.Reason, "input/output error") || r.Name != "" {
			t.Errorf("%v", r)
		}
		equal(t, "made", madeAt(t, to.path, "c1"), []string{"00:00:00"})
		time.Sleep(35 * time.Minute)
		if n := len(names(t, to.path)); n != 2 {
			t.Errorf("%d were made in 65 minutes", n)
		}
		to.unreadable.Store(false)
		time.Sleep(5 * time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_OK || len(names(t, to.path)) != 2 || r.Name != names(t, to.path)[1] {
			t.Errorf("%v, %q", r, names(t, to.path))
		}
	})
}

// A backup that reads back otherwise than it was written is none.
func TestBackupThatDoesNotHoldIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &faulty{directory: directory{t.TempDir()}}
		to.flip.Store(true)
		c := newLeading(t, "c1", 1)
		old := stored(t, to.path, c.State(), time.Now().Add(-2*time.Hour))
		k := newKeeper(t, to, c, func(cfg *Config) { cfg.Keep = 1 })
		stop := runs(t, k)
		defer stop()
		time.Sleep(time.Second)
		if r := k.Report(); r.State != fsmpb.BackupReport_FAILING || !strings.Contains(r.Reason, "SHA-256") {
			t.Errorf("%v", r)
		}
		equal(t, "left", names(t, to.path), []string{old})
		to.flip.Store(false)
		time.Sleep(10 * time.Second)
		equal(t, "made", madeAt(t, to.path, "c1"), []string{"00:00:05"})
	})
}

// Backups go on where the old ones cannot be removed, and that is told.
func TestWhatCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &faulty{directory: directory{t.TempDir()}, remove: func(string) error { return os.ErrPermission }}
		k := newKeeper(t, to, newLeading(t, "c1", 1), func(cfg *Config) { cfg.Keep = 1 })
		stop := runs(t, k)
		defer stop()
		time.Sleep(150 * time.Minute)
		equal(t, "made", madeAt(t, to.path, "c1"), []string{"00:00:00", "01:00:00", "02:00:00"})
		if r := k.Report(); r.State != fsmpb.BackupReport_OK || !strings.Contains(r.Reason, "what is old stays: permission denied") {
			t.Errorf("%v", r)
		}
	})
}

// A target that takes no more bytes is given up and tried again.
func TestStalledTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &faulty{directory: directory{t.TempDir()}, hang: make(chan struct{})}
		k := newKeeper(t, to, newLeading(t, "c1", 1), nil)
		stop := runs(t, k)
		defer stop()
		time.Sleep(stallAfter + time.Second)
		if r := k.Report(); r.State != fsmpb.BackupReport_FAILING || !strings.Contains(r.Reason, "nothing has moved for 3m") {
			t.Errorf("%v", r)
		}
		close(to.hang)
		time.Sleep(time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_OK {
			t.Errorf("%v", r)
		}
	})
}

// A target that hangs for good, as a network file system may, is told as overdue.
// Nothing else is begun meanwhile.
func TestHangingTargetIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &faulty{directory: directory{t.TempDir()}, hang: make(chan struct{}), deaf: true}
		k := newKeeper(t, to, newLeading(t, "c1", 1), nil)
		stop := runs(t, k)
		defer stop()
		time.Sleep(20 * time.Minute)
		if r := k.Report(); r.State != fsmpb.BackupReport_OK {
			t.Errorf("%v", r)
		}
		time.Sleep(20 * time.Hour)
		if r := k.Report(); r.State != fsmpb.BackupReport_OVERDUE || !strings.Contains(r.Reason, "overdue for 20h20m") {
			t.Errorf("%v", r)
		}
		if n := to.puts.Load(); n != 1 {
			t.Errorf("%d attempts at the same time", n)
		}
		close(to.hang)
	})
}

// Losing the lead in the middle of a backup leaves nothing behind.
func TestLeadLostMeanwhile(t *testing.T) {
	dir := &directory{t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(make([]byte, 100))
		cancel()
		_ = w.Close()
	}()
	if err := dir.Put(ctx, "a", 100, r); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	equal(t, "left", names(t, dir.path), nil)
}

package backup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// The clock of synctest begins at midnight.

// Each interval makes one backup, which holds the state of its moment and can
// be restored.
func TestOneBackupAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 3)
		k := newKeeper(t, &directory{dir}, c, nil)
		stop := runs(t, k)
		defer stop()
		time.Sleep(30 * time.Minute)
		c.put(t, "later")
		time.Sleep(2 * time.Hour)
		c.put(t, "after-the-last")
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00", "01:00:00", "02:00:00"})
		for i, name := range names(t, dir) {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			sum, st, err := fsm.ReadBackup(f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			_, later := st.Tenant("later")
			if b, _ := parse(name); b.SHA256 != sum || b.Index != st.Index() || later != (i > 0) {
				t.Errorf("%s: index %d, SHA-256 %x, later %v", name, st.Index(), sum, later)
			}
		}
		r := k.Report()
		if r.State != fsmpb.BackupReport_OK || r.Reason != "" || r.Name != names(t, dir)[2] || r.Index != c.State().Index()-1 ||
			time.Unix(0, r.At).UTC().Format("15:04") != "02:00" || r.Bytes == 0 || r.Target != dir {
			t.Errorf("%v", r)
		}
		if n := testutil.ToFloat64(k.metrics.made); n != 3 {
			t.Errorf("%v backups counted", n)
		}
		stop()
		if r := k.Report(); r != nil {
			t.Errorf("it does not lead and says %v", r)
		}
	})
}

// A new leader neither doubles nor misses a backup, and one that comes after a
// long time makes one at once.
func TestNextLeaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 1)
		for _, lead := range []time.Duration{90 * time.Minute, 20 * time.Minute, 20 * time.Minute} {
			stop := runs(t, newKeeper(t, &directory{dir}, c, nil))
			time.Sleep(lead)
			stop()
		}
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00", "01:00:00", "02:00:00"})
		time.Sleep(5 * time.Hour)
		stop := runs(t, newKeeper(t, &directory{dir}, c, nil))
		defer stop()
		time.Sleep(time.Minute)
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00", "01:00:00", "02:00:00", "07:10:00"})
	})
}

// A read-only cluster is backed up as one that takes writes: it would be
// restored as such.
func TestReadOnlyIsNoPartOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 1)
		c.apply(t, &fsmpb.Command{By: "test", Op: &fsmpb.Command_SetReadOnly{SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: true}}})
		stop := runs(t, newKeeper(t, &directory{dir}, c, nil))
		defer stop()
		time.Sleep(time.Minute)
		f, err := os.Open(filepath.Join(dir, names(t, dir)[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, st, err := fsm.ReadBackup(f); err != nil || st.ReadOnly() != nil {
			t.Errorf("%v, %v", st.ReadOnly(), err)
		}
	})
}

// What a crash has left behind is no backup and goes, other files stay.
func TestLeftoversGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 1)
		old := "." + nameOf("c1", time.Now(), 1, [32]byte{}) + ".17.part"
		fresh := strings.Replace(old, ".17.", ".18.", 1)
		other := strings.Replace(old, "-c1-", "-c2-", 1)
		for _, name := range []string{old, fresh, other, "ecp-c1-notes.txt"} {
			write(t, filepath.Join(dir, name), "half")
			age := 2 * time.Hour
			if name == fresh {
				age = time.Minute
			}
			at := time.Now().Add(-age)
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		stop := runs(t, newKeeper(t, &directory{dir}, c, nil))
		defer stop()
		time.Sleep(time.Minute)
		left := strings.Join(names(t, dir), " ")
		for name, want := range map[string]bool{old: false, fresh: true, other: true, "ecp-c1-notes.txt": true} {
			if strings.Contains(left, name) != want {
				t.Errorf("%s stays: %v", name, !want)
			}
		}
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00"})
	})
}

// A backup that is not what its name says does not count: the next leader makes
// one at once, and it goes when that was verified.
func TestDamagedBackupDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 1)
		good := stored(t, dir, c.State(), time.Now().Add(-50*time.Minute))
		c.put(t, "more")
		bad := stored(t, dir, c.State(), time.Now().Add(-5*time.Minute))
		write(t, filepath.Join(dir, bad), "not a backup")
		stop := runs(t, newKeeper(t, &directory{dir}, c, nil))
		defer stop()
		time.Sleep(time.Minute)
		equal(t, "after a good one of 50 minutes ago", names(t, dir), []string{good, bad})
		time.Sleep(10 * time.Minute)
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:10:00", "23:10:00"})
	})
}

// A clock that goes back: a backup that is a little ahead counts, one that is
// far ahead neither counts nor goes.
func TestBackupsFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := newLeading(t, "c1", 1)
		far := stored(t, dir, c.State(), time.Now().Add(48*time.Hour))
		stored(t, dir, c.State(), time.Now().Add(5*time.Minute))
		stop := runs(t, newKeeper(t, &directory{dir}, c, func(cfg *Config) { cfg.Keep = 1 }))
		defer stop()
		time.Sleep(64 * time.Minute)
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00", "00:05:00"})
		time.Sleep(2 * time.Minute)
		equal(t, "made", madeAt(t, dir, "c1"), []string{"00:00:00", "01:05:00"})
		if left := strings.Join(names(t, dir), " "); !strings.Contains(left, far) {
			t.Errorf("the one from the future is gone: %s", left)
		}
	})
}

// Retention counts and removes only what this cluster has written.
func TestRetention(t *testing.T) {
	for name, test := range map[string]struct {
		keep    int
		keepFor time.Duration
		want    []string // of the backups of each full hour, 00:00 is made
	}{
		"by number":         {keep: 2, want: []string{"00:00:00", "23:00:00"}},
		"by age too":        {keep: 2, keepFor: 3 * time.Hour, want: []string{"00:00:00", "22:00:00", "23:00:00"}},
		"number above age":  {keep: 4, keepFor: time.Hour, want: []string{"00:00:00", "21:00:00", "22:00:00", "23:00:00"}},
		"the newest":        {keep: 1, want: []string{"00:00:00"}},
		"more than are":     {keep: 30, want: []string{"00:00:00", "19:00:00", "20:00:00", "21:00:00", "22:00:00", "23:00:00"}},
		"none ever removed": {keep: 0, want: []string{"00:00:00", "19:00:00", "20:00:00", "21:00:00", "22:00:00", "23:00:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				c, other := newLeading(t, "c1", 1), newLeading(t, "c1x", 1)
				for h := 1; h <= 5; h++ {
					stored(t, dir, c.State(), time.Now().Add(-time.Duration(h)*time.Hour))
					stored(t, dir, other.State(), time.Now().Add(-time.Duration(h)*time.Hour))
				}
				write(t, filepath.Join(dir, "ecp-c1-20000101T000000Z-1.snap"), "a file of somebody else")
				stop := runs(t, newKeeper(t, &directory{dir}, c, func(cfg *Config) { cfg.Keep, cfg.KeepFor = test.keep, test.keepFor }))
				defer stop()
				time.Sleep(time.Minute)
				equal(t, "kept", madeAt(t, dir, "c1"), test.want)
				equal(t, "of another cluster", madeAt(t, dir, "c1x"), []string{"19:00:00", "20:00:00", "21:00:00", "22:00:00", "23:00:00"})
				if n := len(names(t, dir)); n != len(test.want)+6 {
					t.Errorf("%d files", n)
				}
			})
		})
	}
}

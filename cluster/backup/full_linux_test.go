package backup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// fullEnv has the directory, in the process that may mount a disk there.
const fullEnv = "ECP_BACKUP_FULL"

// A full disk is told, leaves nothing half written, and backups go on when there
// is room.
func TestFullDirectory(t *testing.T) {
	dir := os.Getenv(fullEnv)
	if dir == "" { // again, where a disk of its own can be mounted
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDirectory$")
		cmd.Env = append(os.Environ(), fullEnv+"="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if uid := os.Geteuid(); uid != 0 {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	write(t, filler, strings.Repeat("x", 1<<20-8192))
	k := newKeeper(t, &directory{dir}, newLeading(t, "c1", 2000), nil)
	k.retry = 10 * time.Millisecond
	stop := runs(t, k)
	defer stop()
	eventually(t, 20*time.Second, "it is told", func() bool {
		r := k.Report()
		return r.GetState() == fsmpb.BackupReport_FAILING && strings.Contains(r.Reason, syscall.ENOSPC.Error())
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "a backup", func() bool { return k.Report().GetState() == fsmpb.BackupReport_OK })
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("%q", left)
	}
}

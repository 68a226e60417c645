package trio

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// strace counts system calls of a process that it has started.
const strace = "strace"

// countSyncs runs a program so that its calls of fdatasync and fsync are counted
// in a file. The program is the process that is started, strace its child, and
// only these calls are stopped at.
func countSyncs(file string) []string {
	return []string{strace, "-D", "-f", "--seccomp-bpf", "-qq", "-c", "-e", "trace=fdatasync,fsync", "-o", file}
}

func (c *Cluster) syncFile(i int) string { return filepath.Join(c.o.Dir, c.id(i)+".syncs") }

// Syncs is how often all members, which have ended, called fdatasync or fsync.
func (c *Cluster) Syncs() (sum int, err error) {
	for i := range Members {
		n, err := readSyncs(c.syncFile(i))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// readSyncs adds up strace's table, which it writes a moment after the program
// has ended.
func readSyncs(file string) (int, error) {
	for range 500 {
		raw, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		if n, ok := parseSyncs(string(raw)); ok {
			return n, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("%s has not written %s", strace, file)
}

// parseSyncs reads the column calls of the rows of fdatasync and fsync; false
// without the row that ends the table.
func parseSyncs(table string) (calls int, ended bool) {
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 {
			continue
		}
		name := f[len(f)-1]
		if name == "total" {
			return calls, true
		}
		if n, err := strconv.Atoi(f[3]); err == nil && slices.Contains([]string{"fdatasync", "fsync"}, name) {
			calls += n
		}
	}
	return 0, false
}

// SyncTime is how long a write of 4 KiB at the end of a file and its fdatasync
// take in a folder: the median of some.
func SyncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const times = 201
	took := make([]time.Duration, times)
	block := make([]byte, 4096)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[times/2], nil
}

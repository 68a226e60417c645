package e2e

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDev starts everything with one command, tries what it prints and stops
// it with Ctrl-C.
func TestDev(t *testing.T) {
	offset := 1000 + os.Getpid()%1000*10 // below the ports that connections get
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "envoy-control-plane"), "dev",
		"--dir", t.TempDir(), "--port-offset", strconv.Itoa(offset), "--envoys", "2")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(io.TeeReader(out, &said))
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Ctrl-C stops") {
	}
	for _, want := range []string{"leader", "curl -i http://127.0.0.1:" + strconv.Itoa(10000+offset), "archive    postgres://", "kill -9 ", "canary.yaml"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, said.String())
		}
	}
	eventually(t, 10*time.Second, "the printed curl", func() error { return routed(10000+offset, "/", `"upstream": "demo"`) })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if strings.Contains(lines.Text(), "while stopping") {
			t.Error(lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, said.String())
	}
}

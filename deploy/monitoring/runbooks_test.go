package monitoring_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	commandText = regexp.MustCompile("`((?:ecpctl|envoy-control-plane) [^`]+)`")
	linkText    = regexp.MustCompile(`\]\(([^)#:]+)[^)]*\)`)
)

// TestRunbookCommandsExist: each command of ours in a runbook is one that the
// program takes; whether it then reaches a server is another matter.
func TestRunbookCommandsExist(t *testing.T) {
	tried := 0
	for _, file := range glob(t, filepath.Join(runbooks, "*.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commandText.FindAllStringSubmatch(string(text), -1) {
			args := strings.Fields(m[1])
			cmd := exec.CommandContext(t.Context(), nodeBinary, append(args[1:], "--help")...)
			if args[0] == "ecpctl" {
				cmd = exec.CommandContext(t.Context(), ecpctl, append(args[1:], "--server", "http://127.0.0.1:1", "--timeout", "1ms")...)
				cmd.Env = []string{}
			}
			tried++
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 {
				t.Errorf("%s: %s:\n%s", filepath.Base(file), m[1], out)
			}
		}
		for _, m := range linkText.FindAllStringSubmatch(string(text), -1) {
			to := filepath.Join(filepath.Dir(file), m[1])
			if _, err := os.Stat(to); err != nil {
				if _, err := os.Stat(to + ".md"); err != nil {
					t.Errorf("%s links to %s, which is not there", filepath.Base(file), m[1])
				}
			}
		}
	}
	if tried < 30 {
		t.Errorf("only %d commands were found", tried)
	}
}

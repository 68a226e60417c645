// Package scripts_test runs the scripts of this folder. What takes a cluster
// has the build tag deploy: make deploy-test.
package scripts_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/deploy/local"
)

// Where the binaries under test and Debian's shellcheck are.
var bin, shellcheck string

func TestMain(m *testing.M) {
	os.Exit(local.RunTests(m, func(ctx context.Context, dir string) (err error) {
		bin = dir
		shellcheck, err = local.FindDebian(ctx, "shellcheck", "shellcheck")
		for program, pkg := range map[string]string{"jq": "jq", "curl": "curl", "pg_dump": "postgresql"} {
			_, missing := local.FindDebian(ctx, program, pkg)
			err = errors.Join(err, missing)
		}
		return errors.Join(err, local.Build(dir, "../../cmd/envoy-control-plane", "../../cmd/ecpctl"))
	}))
}

// script is one run of a script.
type script struct {
	name string
	args []string
	env  []string
}

// run returns the exit code and the output, standard error included.
func (s script) run(t *testing.T) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "./"+s.name, s.args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DATABASE_URL=")
	cmd.Env = append(cmd.Env, s.env...)
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	if ok {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

// must runs a script that is to succeed, and returns its output.
func (s script) must(t *testing.T) string {
	t.Helper()
	code, out := s.run(t)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s", s.name, strings.Join(s.args, " "), code, out)
	}
	return out
}

// scripts are those that people run.
func scripts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.sh")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		if f != "common.sh" {
			found = append(found, f)
		}
	}
	return found
}

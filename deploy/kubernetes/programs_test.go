//go:build deploy

package kubernetes

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// programs are what people use, as they would have it.
type programs struct {
	kubernetes  string // folder
	helm        string
	operator    string // folder of the Prometheus operator's definitions
	environment []string
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "env", append([]string{name}, args...)...)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), tools.environment...)
	return cmd
}

// warned finds what the server warns of: deprecated versions, fields that there
// are not, pods that are not restricted.
var warned = regexp.MustCompile(`(?im)^warning:.*|warnings\.go.*`)

// try runs a program in the root of the project and returns what it says. A
// warning fails the test.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := command(t.Context(), name, args...).CombinedOutput()
	if warnings := warned.FindAllString(string(out), -1); warnings != nil {
		t.Errorf("%s %s: %s", name, strings.Join(args, " "), strings.Join(warnings, "\n"))
	}
	return string(out), err
}

// must is try of what has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

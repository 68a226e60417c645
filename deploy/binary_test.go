// Package deploy_test holds the deployment files against the binary: every
// flag and variable that they set exists, and all of them together are a
// configuration that a node accepts.
package deploy_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	flagPattern     = regexp.MustCompile(`--[a-z][-a-z]*`)
	variablePattern = regexp.MustCompile(`"([A-Z][A-Z0-9_]+)"`)
)

// notOurs are variables that others than our code read.
var notOurs = []string{"GOMEMLIMIT", "PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}

// built is the folder of the binary, empty as long as no test has asked for it.
var built string

var buildOnce = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "deploy-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "envoy-control-plane")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/envoy-control-plane").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatalf("build the binary: %v", err)
	}
	return path
}

// knownFlags are the flags that serve's help names.
func knownFlags(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(binary(t), "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("serve --help: %v\n%s", err, out)
	}
	return flagPattern.FindAllString(string(out), -1)
}

// knownVariables are the names that the command's settings spell out.
func knownVariables(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range []string{"config.go", "resolve.go"} {
		text, err := os.ReadFile("../cmd/envoy-control-plane/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variablePattern.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// checkNode fails unless serve knows every flag and variable and accepts their
// values.
func checkNode(t *testing.T, args []string, env map[string]string) {
	t.Helper()
	flags, variables := knownFlags(t), knownVariables(t)
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "--") && !slices.Contains(flags, name) {
			t.Errorf("serve has no flag %s", name)
		}
	}
	for name := range env {
		if !slices.Contains(variables, name) && !slices.Contains(notOurs, name) {
			t.Errorf("serve reads no variable %s", name)
		}
	}
	if mistakes := mistakes(t, args, env); len(mistakes) > 0 {
		t.Errorf("serve refuses the configuration:\n%s", strings.Join(mistakes, "\n"))
	}
}

// mistakes returns what serve finds wrong. So that it never starts it is given
// a mistake of our own, which it names with all others and which is left out.
func mistakes(t *testing.T, args []string, env map[string]string) []string {
	t.Helper()
	const deliberate = "deliberately-wrong"
	cmd := exec.Command(binary(t), append(slices.Clone(args), "--log-level="+deliberate)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
		t.Fatalf("serve ended with %v, want exit code 2 for its wrong log level:\n%s", err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		found = append(found, strings.TrimSpace(line))
	}
	named := slices.IndexFunc(found, func(line string) bool { return strings.Contains(line, deliberate) })
	if named < 0 {
		t.Fatalf("serve does not name the wrong log level:\n%s", out)
	}
	return slices.Delete(found, named, named+1)
}

// readYAML reads the documents of a file, each into a T. Fields that T lacks
// are ignored, keys that are there twice refused.
func readYAML[T any](t *testing.T, path string) []T {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	for part := range strings.SplitSeq("\n"+string(text), "\n---\n") {
		raw, err := yaml.YAMLToJSONStrict([]byte(part))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var doc T
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, doc)
	}
	return out
}

// with returns the variables of all maps; later ones win.
func with(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

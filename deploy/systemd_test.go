package deploy_test

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/deploy/local"
)

const unitFile = "systemd/envoy-control-plane.service"

// TestSystemdUnit: systemd itself finds nothing wrong with the unit, and little
// that it leaves open (its scale goes to 100).
func TestSystemdUnit(t *testing.T) {
	analyze, err := local.FindDebian(t.Context(), "systemd-analyze", "systemd")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/envoy-control-plane"
	if !strings.Contains(string(text), "ExecStart="+installed+" serve --config ") {
		t.Errorf("the unit does not run %s", installed)
	}
	unit := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), installed, binary(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		{"security", "--offline=true", "--threshold=15", "--no-pager", unit},
	} {
		out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// environment reads a file of NAME=value lines.
func environment(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			found[name] = value
		}
	}
	return found
}

// TestSystemdNodesFitTheBinary: the example configuration is one that a node
// takes, the first three and those that join later.
func TestSystemdNodesFitTheBinary(t *testing.T) {
	secrets := t.TempDir()
	jwt, key := filepath.Join(secrets, "jwt"), filepath.Join(secrets, "key")
	for path, text := range map[string]string{
		jwt: strings.Repeat("s", 64), key: base64.StdEncoding.EncodeToString(slices.Repeat([]byte("k"), 32)),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"serve", "--config", "systemd/node.yaml"}
	first := with(environment(t, "systemd/node.env"), map[string]string{"JWT_SECRET_FILE": jwt, "SECRETS_KEY_FILE": key, "DATA_DIR": t.TempDir()})
	checkNode(t, args, first)
	checkNode(t, args, with(first, map[string]string{"NODE_ID": "cp-3", "BOOTSTRAP_EXPECT": "0", "VOTER": "false"}))
}

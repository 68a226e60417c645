package statefulset

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/deploy/namespace"
)

// binEnv has the folder of the binaries, and is set inside of the namespaces.
const binEnv = "ECP_STATEFULSET_BIN"

// hub is the bridge that all pods are on, with the test itself.
var hub *namespace.Bridge

func TestMain(m *testing.M) {
	run := outside
	if os.Getenv(binEnv) != "" {
		run = func() (int, error) { return inside(m) }
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// outside does what needs the world, and runs the tests apart from it.
func outside() (code int, err error) {
	bin, err := os.MkdirTemp("", "ecp-statefulset-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := local.Build(bin, "../../cmd/envoy-control-plane", "../../cmd/ecpctl"); err != nil {
		return 1, err
	}
	return namespace.Run(binEnv + "=" + bin)
}

// inside makes the network, where every program that resolves names asks the
// test's own DNS.
func inside(m *testing.M) (code int, err error) {
	if err := namespace.Settle(); err != nil {
		return 1, err
	}
	if hub, err = namespace.NewBridge("br0", hubIP+"/16"); err != nil {
		return 1, err
	}
	file := filepath.Join(os.Getenv(binEnv), "resolv.conf")
	if err := os.WriteFile(file, []byte(resolvConf("default")), 0o644); err != nil {
		return 1, err
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return 1, fmt.Errorf("bind resolv.conf: %w", err)
	}
	return m.Run(), nil
}

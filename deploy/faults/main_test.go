package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/deploy/namespace"
)

// binEnv has the folder of the binaries, and is set inside of the namespaces.
const binEnv = "ECP_FAULTS_BIN"

func TestMain(m *testing.M) {
	if os.Getenv(binEnv) != "" {
		if err := namespace.Settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// outside does what needs the world, and runs the tests apart from it.
func outside() (code int, err error) {
	bin, err := os.MkdirTemp("", "ecp-faults-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := local.Build(bin, "../../cmd/envoy-control-plane"); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := local.FetchPostgres(ctx); err != nil {
		return 1, err
	}
	if _, err := local.FindDebian(ctx, "strace", "strace"); err != nil {
		return 1, fmt.Errorf("slow and failing disks: %w", err)
	}
	return namespace.Run(binEnv + "=" + bin)
}

func nodeBinary() string { return filepath.Join(os.Getenv(binEnv), "envoy-control-plane") }

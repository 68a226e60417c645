package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/org/envoy-control-plane/deploy/local"
)

// binEnv has the folder of the binaries, and is set inside of the namespaces.
const binEnv = "ECP_FAULTS_BIN"

func TestMain(m *testing.M) {
	if os.Getenv(binEnv) != "" {
		if err := settle(); err != nil {
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
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), binEnv+"="+bin)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = apart()
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case err != nil:
		return 1, fmt.Errorf("run the tests in namespaces of their own (it takes root, or user namespaces): %w", err)
	default:
		return 0, nil
	}
}

// apart asks for new namespaces. Who is not root stays who he is, with the
// capabilities of a user namespace: Postgres runs as anybody but root.
func apart() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE}
	}
	return attr
}

// settle makes the new namespaces fit to live in.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	return loopbackUp()
}

func nodeBinary() string { return filepath.Join(os.Getenv(binEnv), "envoy-control-plane") }

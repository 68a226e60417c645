package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// FindDebian returns the path of a program. Where it is missing it is installed
// from Debian's package, which takes root; what it says goes to standard error.
// No service is started with it.
func FindDebian(ctx context.Context, program, pkg string) (string, error) {
	if path, ok := lookProgram(program); ok {
		return path, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "--yes", "--no-install-recommends", pkg}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...)
		// Services are not started in single-user mode.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s is not here and cannot be installed (apt-get %s: %w): install the package %s",
				program, args[0], err, pkg)
		}
	}
	if path, ok := lookProgram(program); ok {
		return path, nil
	}
	return "", fmt.Errorf("the package %s has no program %s", pkg, program)
}

// lookProgram looks where Debian keeps servers, too: on root's PATH alone, and
// in a folder of Postgres' own.
func lookProgram(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is well formed
	for _, path := range append(found, filepath.Join("/usr/sbin", name)) {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

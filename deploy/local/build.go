package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Build puts the commands of these packages into a folder, as `make build`
// does, so that it compiles nothing anew.
func Build(dir string, packages ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the binaries: %w", err)
	}
	return nil
}

// Make has make build tools that are not there yet and returns their paths, of
// which each of the targets prints at least one.
func Make(ctx context.Context, targets ...string) ([]string, error) {
	what := "make " + strings.Join(targets, " ")
	root, ok := checkout()
	if !ok {
		return nil, errors.New(what + ": not in a checkout")
	}
	cmd := exec.CommandContext(ctx, "make", slices.Concat([]string{"--no-print-directory", "-s", "-C", root}, targets)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	paths := strings.Fields(string(out))
	if len(paths) < len(targets) {
		return nil, fmt.Errorf("%s says %q", what, out)
	}
	return paths, nil
}

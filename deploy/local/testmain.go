package local

import (
	"context"
	"fmt"
	"os"
	"time"
)

// RunTests is what a TestMain does that has programs to make or find first: it
// runs the tests (a *testing.M) once prepare has filled the folder, which is
// removed afterwards, and returns the exit code.
func RunTests(m interface{ Run() int }, prepare func(ctx context.Context, dir string) error) int {
	dir, err := os.MkdirTemp("", "ecp-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := prepare(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

package main

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// binaries is a folder for programs that the tests build.
var binaries string

// TestMain lets the test's binary be a server process: turns start the
// program that they are part of.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "server" || os.Args[1] == "crowd") {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	// Under the race detector each of them would sleep for a second at its end.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	var err error
	if binaries, err = os.MkdirTemp("", "ecpbench-test-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(binaries)
		os.Exit(code)
	}))
}

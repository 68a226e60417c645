package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code, 0 when done, 1
// when it failed, 2 for a wrong command line or configuration.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	started := false
	root := &cobra.Command{
		Use:           "envoy-control-plane",
		Short:         "Control plane for large fleets of Envoy proxies",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,

		PersistentPreRun: func(*cobra.Command, []string) { started = true },
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(commands()...)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	printError(stderr, err)
	var usage usageError
	if !started || errors.As(err, &usage) {
		return 2
	}
	return 1
}

func commands() []*cobra.Command {
	return []*cobra.Command{serveCommand(), devCommand(), migrateCommand(), doctorCommand(), recoverCommand(), healthCommand(), versionCommand()}
}

// usageError is a wrong command line or configuration: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "envoy-control-plane: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nenvoy-control-plane: "))
}

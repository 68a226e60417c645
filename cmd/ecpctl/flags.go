package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/wire"
)

// defaultWait is what --wait means without a time.
const defaultWait = "30s"

// applyFlags are the flags of apply, and those of diff -f.
type applyFlags struct {
	files     []string
	recursive bool
	fleet     string
	prune     bool
	dryRun    bool
	force     bool
	message   string
	wait      time.Duration
	expect    *uint64
}

// addChangeFlags adds the flags of everything that makes a revision.
func addChangeFlags(cmd *cobra.Command, f *applyFlags) (expect *uint64) {
	flags := cmd.Flags()
	addFleet(cmd, &f.fleet, "fleet to change")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the differences and change nothing")
	flags.BoolVar(&f.force, "force", false, "allow the fleet to end without listeners or clusters")
	flags.StringVarP(&f.message, "message", "m", "", "why, for the history")
	flags.DurationVar(&f.wait, "wait", 0, "wait until the proxies have it; alone: "+defaultWait)
	flags.Lookup("wait").NoOptDefVal = defaultWait
	return flags.Uint64("expect-revision", 0, "refuse unless the fleet is at this `REVISION`")
}

// noArguments refuses arguments, with a word on the likely mistake.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := time.ParseDuration(args[0]); err == nil && cmd.Flags().Lookup("wait") != nil {
		return misuse("%q stands alone; write --wait=%s", args[0], args[0])
	}
	return misuse("%s takes no argument, there is %q", cmd.CommandPath(), args[0])
}

func (f *applyFlags) check() error {
	switch {
	case len(f.files) == 0:
		return misuse("-f is needed: a file, a folder, or - for standard input")
	case f.wait < 0:
		return misuse("--wait must not be negative")
	case f.dryRun && f.wait > 0:
		return misuse("--dry-run changes nothing to --wait for")
	}
	return nil
}

// stages reports whether there is a change set to send.
func (f *applyFlags) stages(p *plan) bool {
	return len(p.staged) > 0 || f.prune
}

func (f *applyFlags) changeSet(p *plan) wire.ChangeSet {
	set := wire.ChangeSet{Message: f.message, ExpectRevision: f.expect, Upsert: p.messages()}
	if f.prune {
		set.Mode = wire.ModeReplace
	}
	return set
}

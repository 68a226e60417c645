package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// applied is what apply has done, as it prints it.
type applied struct {
	Tenant       string                  `json:"tenant"`
	Fleet        string                  `json:"fleet,omitempty"`
	FleetCreated bool                    `json:"fleet_created,omitempty"`
	Endpoints    []wire.EndpointsWritten `json:"endpoints,omitempty"`
	Secrets      []wire.SecretWritten    `json:"secrets,omitempty"`
	Change       *wire.Changed           `json:"change,omitempty"`
	Status       *wire.FleetStatus       `json:"status,omitempty"`
}

func (a *app) applyCommand() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|- [--fleet FLEET]",
		Short: "Apply Envoy resources to a fleet, as one revision",
		Long: `Apply reads Envoy messages, YAML or JSON with "@type", from files, from folders (*.yaml, *.yml, *.json)
or from standard input ("-"). A file may hold several documents and lists, and what "ecpctl get" prints.

All of it becomes one revision of the fleet, or none when nothing differs. The fleet is created when it is
missing. ClusterLoadAssignments and Secrets are not staged: they are sent to the tenant's endpoints and secrets
first, after a trial of everything else, and reach the proxies at once.

With --wait it ends when every connected proxy has the revision, and names those that do not.`,
		Example: `  ecpctl apply -f edge/ --fleet edge -m "new route" --wait
  ecpctl apply -f edge/ --fleet edge --prune --dry-run
  ecpctl apply -f listener.yaml -f clusters.yaml --fleet edge --expect-revision 12
  ecpctl get resources --fleet edge -o yaml | ecpctl apply -f - --fleet staging
  ecpctl apply -f endpoints.yaml`,
		Args: noArguments,
	}
	expect := addChangeFlags(cmd, f)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	flags.BoolVarP(&f.recursive, "recursive", "R", false, "read the folders in a folder too")
	flags.BoolVar(&f.prune, "prune", false, "remove resources of the fleet that are not in the files")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if cmd.Flags().Changed("expect-revision") {
			f.expect = expect
		}
		return a.apply(cmd.Context(), c, f)
	})
	return cmd
}

// read reads the files and says what is to be done.
func (a *app) read(f *applyFlags) (*plan, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	docs, err := readDocuments(f.files, f.recursive, a.in)
	if err != nil {
		return nil, err
	}
	p, err := makePlan(docs)
	if err != nil {
		return nil, err
	}
	if f.fleet == "" && (len(p.staged) > 0 || f.prune) {
		return nil, misuse("--fleet is needed: %s", whyFleet(p))
	}
	return p, nil
}

func whyFleet(p *plan) string {
	if len(p.staged) == 0 {
		return "--prune removes resources of a fleet"
	}
	return p.staged[0].origin + " belongs to one"
}

func (a *app) apply(ctx context.Context, c *client.Client, f *applyFlags) error {
	p, err := a.read(f)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.tryOut(ctx, c, f, p)
	}
	done := &applied{Tenant: c.Tenant(), Fleet: f.fleet}
	err = a.applyPlan(ctx, c, f, p, done)
	if !a.forPeople() && (err == nil || done.FleetCreated || done.Endpoints != nil || done.Secrets != nil || done.Change != nil) {
		if failed := a.show(done, nil); failed != nil {
			return failed
		}
	}
	return err
}

// applyPlan does it step by step and keeps account in done.
func (a *app) applyPlan(ctx context.Context, c *client.Client, f *applyFlags, p *plan, done *applied) error {
	if f.stages(p) {
		if err := a.ensureFleet(ctx, c, f.fleet, done); err != nil {
			return err
		}
		if len(p.endpoints)+len(p.secrets) > 0 {
			// So that they are not live when the rest is refused.
			if _, err := c.Change(ctx, f.fleet, f.changeSet(p), client.ChangeOptions{DryRun: true, Force: f.force}); err != nil {
				return relocate(err, p.origin)
			}
		}
	}
	if err := a.putSecrets(ctx, c, p.secrets, done); err != nil {
		return err
	}
	if err := a.putEndpoints(ctx, c, p.endpoints, done); err != nil {
		return err
	}
	if !f.stages(p) {
		if f.wait > 0 {
			a.note("endpoints and secrets have no revision; there is nothing to wait for")
		}
		return nil
	}
	changed, err := c.Change(ctx, f.fleet, f.changeSet(p), client.ChangeOptions{Force: f.force})
	if err != nil {
		return relocate(err, p.origin)
	}
	changed.Warnings = relocateAll(changed.Warnings, p.origin)
	done.Change = changed
	a.sayChanged(f.fleet, changed)
	if f.wait == 0 {
		return nil
	}
	done.Status, err = a.await(ctx, c, f.fleet, changed.Revision, f.wait)
	return err
}

// ensureFleet creates the fleet when it is not there.
func (a *app) ensureFleet(ctx context.Context, c *client.Client, fleet string, done *applied) error {
	_, err := c.GetFleet(ctx, fleet)
	if client.CodeOf(err) != wire.CodeFleetNotFound {
		return err
	}
	if _, err := c.PutFleet(ctx, fleet, wire.FleetPut{}); err != nil {
		return err
	}
	done.FleetCreated = true
	a.say("fleet %s created", fleet)
	return nil
}

func (a *app) putEndpoints(ctx context.Context, c *client.Client, all []live, done *applied) error {
	for _, e := range all {
		origin := func(path string) string { return within(e.origin, path) }
		written, err := c.PutEndpoints(ctx, e.name, e.raw)
		if err != nil {
			return relocate(err, origin)
		}
		written.Warnings = relocateAll(written.Warnings, origin)
		done.Endpoints = append(done.Endpoints, *written)
		a.sayEndpoints(written)
	}
	return nil
}

func (a *app) sayEndpoints(w *wire.EndpointsWritten) {
	if w.Unchanged {
		a.say("endpoints %s: no difference", clean(w.Service))
	} else {
		a.say("endpoints %s put", clean(w.Service))
	}
	a.warn(w.Warnings)
}

// sayChanged tells people about a new revision, or that there is none.
func (a *app) sayChanged(fleet string, c *wire.Changed) {
	if len(c.Changed) == 0 {
		a.say("fleet %s: no difference, revision %d stays", fleet, c.Revision)
	} else {
		a.say("fleet %s: revision %d, %s", fleet, c.Revision, plural(len(c.Changed), "change"))
		a.sayChanges(c.Changed)
	}
	a.warn(c.Warnings)
}

func (a *app) sayChanges(changes []wire.Change) {
	if !a.forPeople() {
		return
	}
	t := newTable(a.out)
	for _, ch := range changes {
		t.row("  "+ch.Op, ch.Type, ch.Name)
	}
	_ = t.flush() // as say
}

package main

import (
	"context"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// trial is what apply --dry-run and diff -f print.
type trial struct {
	Tenant string `json:"tenant"`
	Fleet  string `json:"fleet,omitempty"`
	// FleetMissing: it would be created, and nothing could be tried against it.
	FleetMissing bool `json:"fleet_missing,omitempty"`
	// Endpoints names the services whose endpoints would be put.
	Endpoints []string `json:"endpoints,omitempty"`
	// Secrets names those that would be put.
	Secrets []string      `json:"secrets,omitempty"`
	Change  *wire.Changed `json:"change,omitempty"`
}

// tryOut prints what applying a plan would change.
func (a *app) tryOut(ctx context.Context, c *client.Client, f *applyFlags, p *plan) error {
	t := &trial{Tenant: c.Tenant(), Fleet: f.fleet}
	for _, s := range p.secrets {
		t.Secrets = append(t.Secrets, s.name)
		a.say("secret %s would be put", clean(s.name))
	}
	for _, e := range p.endpoints {
		t.Endpoints = append(t.Endpoints, e.name)
		a.say("endpoints %s would be put", clean(e.name))
	}
	if f.stages(p) {
		changed, err := c.Change(ctx, f.fleet, f.changeSet(p),
			client.ChangeOptions{DryRun: true, Force: f.force, Content: true})
		switch {
		case client.CodeOf(err) == wire.CodeFleetNotFound:
			t.FleetMissing = true
			a.say("fleet %s would be created, with %s from the files", f.fleet, plural(len(p.staged), "resource"))
			a.note("warning: the resources were not checked, because the fleet does not exist yet")
		case err != nil:
			return relocate(err, p.origin)
		default:
			changed.Warnings = relocateAll(changed.Warnings, p.origin)
			t.Change = changed
			a.sayTrial(f.fleet, changed)
		}
	}
	if a.forPeople() {
		return nil
	}
	return a.show(t, nil)
}

// sayTrial tells people what a dry run came to.
func (a *app) sayTrial(fleet string, c *wire.Changed) {
	if len(c.Changed) == 0 {
		a.say("fleet %s: no difference, revision %d would stay", fleet, c.Revision)
	} else {
		reach := ""
		if c.Affected != nil {
			reach = ", for " + plural(c.Affected.Connected, "connected proxy")
		}
		a.say("fleet %s: %s to revision %d%s", fleet, plural(len(c.Changed), "change"), c.Revision, reach)
		a.sayDiff(c.Changed)
	}
	a.warn(c.Warnings)
}

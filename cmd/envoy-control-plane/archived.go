package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/fsm"
)

// archived lets the API report from the archive.
type archived struct{ archive *archive.Archive }

func (a archived) Revision(ctx context.Context, tenant, fleet string, n uint64) (*fsm.Revision, error) {
	return a.archive.Revision(ctx, tenant, fleet, n)
}

// reported turns a page of the archive's into one of the API's.
func reported[From, To any](r *archive.Report[From], err error, row func(From) (To, error)) (*wire.Report[To], error) {
	if err != nil {
		return nil, err
	}
	out := &wire.Report[To]{Items: make([]To, len(r.Items)), Next: r.Next, Since: r.Since, Until: r.Until, AsOf: r.AsOf}
	for i, item := range r.Items {
		if out.Items[i], err = row(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a archived) Changes(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedChange], error) {
	r, err := a.archive.Changes(ctx, archive.ReportQuery(q))
	return reported(r, err, func(c archive.Change) (wire.ReportedChange, error) {
		out := wire.ReportedChange{
			Seq: c.Seq, Index: c.Index, At: c.At, By: c.By, Kind: c.Kind, Fleet: c.Fleet,
			Changes: c.Changes, Changed: []wire.Change{}, Data: c.Data,
		}
		if err := json.Unmarshal(c.Changed, &out.Changed); err != nil {
			return out, fmt.Errorf("event %d: %w", c.Seq, err)
		}
		return out, nil
	})
}

func (a archived) Convergence(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedConvergence], error) {
	r, err := a.archive.Convergence(ctx, archive.ReportQuery(q))
	return reported(r, err, func(c archive.Convergence) (wire.ReportedConvergence, error) {
		out := wire.ReportedConvergence{
			Revision: c.Revision, Index: c.Index, At: c.At, By: c.By, Fleet: c.Fleet, Message: c.Message, Changes: c.Changes,
			Expected: c.Expected, Synced: c.Synced, Rejected: c.Rejected, Departed: c.Departed, Pending: c.Pending, Converged: c.Converged,
			P50MS: c.P50.Milliseconds(), P99MS: c.P99.Milliseconds(), MaxMS: c.Max.Milliseconds(),
			Slowest: []wire.SlowProxy{}, Waiting: append([]string{}, c.Waiting...),
		}
		for _, s := range c.Slowest {
			out.Slowest = append(out.Slowest, wire.SlowProxy{Proxy: s.Proxy, Node: s.Node, AfterMS: s.After.Milliseconds()})
		}
		return out, nil
	})
}

func (a archived) Rejections(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedRejections], error) {
	r, err := a.archive.Rejections(ctx, archive.ReportQuery(q))
	return reported(r, err, func(x archive.Rejections) (wire.ReportedRejections, error) {
		return wire.ReportedRejections{
			Fleet: x.Fleet, Type: x.Type, Detail: x.Detail, Count: x.Count, Proxies: x.Proxies, Proxy: x.Proxy,
			FirstAt: x.First, LastAt: x.Last, FirstRevision: x.FirstRevision, LastRevision: x.LastRevision,
		}, nil
	})
}

func (a archived) Proxies(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedProxies], error) {
	r, err := a.archive.Proxies(ctx, archive.ReportQuery(q))
	return reported(r, err, func(p archive.Presence) (wire.ReportedProxies, error) {
		return wire.ReportedProxies{From: p.From, To: p.To, Build: p.Name, Connected: p.Connected, Disconnected: p.Disconnected}, nil
	})
}

func (a archived) Availability(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedAvailability], error) {
	r, err := a.archive.Availability(ctx, archive.ReportQuery(q))
	return reported(r, err, func(p archive.Presence) (wire.ReportedAvailability, error) {
		return wire.ReportedAvailability{
			From: p.From, To: p.To, Fleet: p.Name,
			Availability: p.Availability(), Connected: p.Connected, Disconnected: p.Disconnected,
		}, nil
	})
}

// Inventory tells what the database has, as the API does.
func (a archived) Inventory(ctx context.Context) (*wire.ArchiveDatabase, error) {
	have, err := a.archive.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	out := &wire.ArchiveDatabase{
		Gaps: have.Gaps, GapEvents: have.GapEvents, Quarantined: have.Quarantined, Tables: make([]wire.ArchiveTable, len(have.Tables)),
	}
	if c := have.Cursor; c != nil {
		out.Cursor = &wire.ArchiveCursor{Seq: c.Seq, Term: c.Term, Node: c.Node, UpdatedAt: c.UpdatedAt}
	}
	if !have.LastGap.IsZero() {
		out.LastGapAt = &have.LastGap
	}
	if !have.Digested.IsZero() {
		out.ReportsAsOf = &have.Digested
	}
	for i, t := range have.Tables {
		table := wire.ArchiveTable{Name: t.Name, DefaultRows: t.DefaultRows, Partitions: make([]wire.ArchivePartition, len(t.Partitions))}
		for j, p := range t.Partitions {
			table.Partitions[j] = wire.ArchivePartition{Name: p.Name, Rows: p.Rows, Bytes: p.Bytes}
			if !p.From.IsZero() {
				table.Partitions[j].From, table.Partitions[j].To = new(p.From), new(p.To)
			}
		}
		out.Tables[i] = table
	}
	return out, nil
}

func (a archived) Metrics(ctx context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedMetric], error) {
	r, err := a.archive.Metrics(ctx, archive.ReportQuery(q))
	return reported(r, err, func(m archive.Metric) (wire.ReportedMetric, error) {
		out := wire.ReportedMetric{
			From: m.From, To: m.To, Fleet: m.Fleet, Proxy: m.Proxy, Name: m.Name, Kind: m.Kind, Proxies: m.Proxies, Count: m.Count,
			Value: m.Value, Min: m.Min, Max: m.Max, P50: m.P50, P90: m.P90, P99: m.P99,
		}
		if err := json.Unmarshal(m.Labels, &out.Labels); err != nil {
			return out, fmt.Errorf("labels of %s: %w", m.Name, err)
		}
		return out, nil
	})
}

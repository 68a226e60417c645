package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// copies is the baseline of restore: the same bytes copied.
const copies = "copy"

// perFleet is how many clusters a fleet of the backup has.
const perFleet = 500

func (a *app) restoreCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Measure backup and restore of a cluster of three, beside bare copies",
		Long: `restore makes a backup of a state with many resources (clusters and their endpoints)
and proxies. It starts clusters of three processes and measures the time to restore
it into a running one, until the answer and until every member serves it; to take a
backup of that; and until a new cluster that is seeded with it (serve --restore) is
ready.

Beside it, as copy: the same bytes read and written to three files one after the
other, each synced, as members have to; a backup is one copy, with its checksum.

Figures are medians of the rounds; ratios are to copy. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench restore
  ecpbench restore --resources 10000 --proxies 1000 --rounds 5`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 3)
	ownOnly(cmd.Flags())
	cmd.Flags().IntVar(&o.services, "resources", 100_000, "resources: half of them clusters, half endpoints")
	cmd.Flags().IntVar(&o.proxies, "proxies", 10_000, "proxies")
	o.clients, o.lasting = 1, time.Second
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.servers = []string{trio.ECP}
		if err := o.check(); err != nil {
			return err
		}
		if o.services < 2*perFleet || o.proxies < 0 {
			return misuse("--resources is %d and --proxies %d; they are at least %d and 0", o.services, o.proxies, 2*perFleet)
		}
		return a.clusters(cmd.Context(), "restore", o, Trio{Content: o.services, Proxies: o.proxies}, measureRestore)
	}
	return cmd
}

// restored is what was measured in a turn; of copies, the bare work.
type restored struct{ answered, served, backup, seeded time.Duration }

func measureRestore(ctx context.Context, r *trioRun) error {
	file := filepath.Join(r.dir, "backup")
	size, err := r.makeBackup(file)
	if err != nil {
		return fmt.Errorf("make a backup: %w", err)
	}
	r.app.note("the backup has %.1f MiB", float64(size)/(1<<20))
	r.baseline = copies
	samples := map[string][]restored{}
	for round := range r.rounds {
		bare, err := bareCopies(file, r.dir)
		if err != nil {
			return err
		}
		s, err := withCluster(ctx, r, trio.ECP, trio.Options{}, func(ctx context.Context, c *trio.Cluster) (restored, error) {
			return r.restoreTurn(ctx, c, file)
		})
		if err == nil {
			s.seeded, err = r.seed(ctx, file)
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		r.app.note("round %d/%d: restored in %s, seeded in %s", round+1, r.rounds, seconds(s.served), seconds(s.seeded))
		samples[copies] = append(samples[copies], bare)
		samples[trio.ECP] = append(samples[trio.ECP], s)
	}
	for _, name := range []string{copies, trio.ECP} {
		took := func(what string, of func(restored) time.Duration) figure {
			return median(what, "s", samples[name], func(s restored) float64 { return of(s).Seconds() })
		}
		r.result.Servers = append(r.result.Servers, outcome{Server: name, Figures: []figure{
			took("restore, until the answer", func(s restored) time.Duration { return s.answered }),
			took("restore, until all members serve it", func(s restored) time.Duration { return s.served }),
			took("backup", func(s restored) time.Duration { return s.backup }),
			took("new cluster of it, until all are ready", func(s restored) time.Duration { return s.seeded }),
		}})
	}
	return nil
}

// benchCluster is the cluster that the backup is said to be from.
const benchCluster = "bench"

// makeBackup writes the snapshot of a state as wanted.
func (r *trioRun) makeBackup(path string) (size int64, err error) {
	clusters := r.services / 2
	e, err := newECP(newScene(clusters/perFleet, perFleet, 3))
	if err != nil {
		return 0, err
	}
	if err := e.do(&fsmpb.Command{Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: benchCluster, Epoch: benchCluster},
	}}}); err != nil {
		return 0, err
	}
	for first, batch := 0, uint64(1); first < r.proxies; first, batch = first+100, batch+1 {
		if err := e.do(connectedProxies(first, min(first+100, r.proxies), batch, clusters/perFleet)); err != nil {
			return 0, err
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := e.state.WriteSnapshot(f); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func connectedProxies(first, end int, batch uint64, fleets int) *fsmpb.Command {
	report := &fsmpb.ReportProxies{Node: nodeName, NodeStart: 1, Batch: batch}
	for i := first; i < end; i++ {
		report.Reports = append(report.Reports, &fsmpb.ProxyReport{
			Tenant: tenantName, Id: proxyID(i), Stream: uint64(i),
			Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{
				Fleet: fleetName(i % fleets), Peer: "10.0.0.1:1234", Protocol: string(delta), Build: "1.40.0",
			}},
		})
	}
	return &fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: report}}
}

// restoreTurn restores into a running cluster and takes a backup of it.
func (r *trioRun) restoreTurn(ctx context.Context, c *trio.Cluster, file string) (out restored, err error) {
	clients, err := membersClients(c)
	if err != nil {
		return out, err
	}
	began := time.Now()
	if _, err = clients[0].Restore(ctx, func() (io.ReadCloser, error) { return os.Open(file) }, benchCluster, false); err != nil {
		return out, err
	}
	out.answered = time.Since(began)
	if err := allServe(ctx, clients); err != nil {
		return out, err
	}
	out.served = time.Since(began)
	to, err := os.Create(filepath.Join(r.dir, "taken"))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	began = time.Now()
	if _, err := clients[1].Backup(ctx, 0, to); err != nil {
		return out, err
	}
	if err := to.Sync(); err != nil {
		return out, err
	}
	out.backup = time.Since(began)
	return out, nil
}

// allServe waits until every member has the first fleet of the backup.
func allServe(ctx context.Context, members []*client.Client) error {
	for _, m := range members {
		for {
			fleet, err := m.GetFleet(ctx, fleetName(0))
			if err == nil && fleet.Revision > 0 {
				break
			}
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// seed starts a new cluster from the backup and returns how long that takes.
func (r *trioRun) seed(ctx context.Context, file string) (took time.Duration, err error) {
	began := time.Now()
	o := trio.Options{Seed: file, SeedCluster: benchCluster}
	return withCluster(ctx, r, trio.ECP, o, func(ctx context.Context, c *trio.Cluster) (time.Duration, error) {
		clients, err := membersClients(c)
		if err == nil {
			err = allServe(ctx, clients)
		}
		return time.Since(began), err
	})
}

// bareCopies does with the bytes what nobody can do without.
func bareCopies(file, dir string) (out restored, err error) {
	began := time.Now()
	for i := range trio.Members {
		if err := copyFile(file, filepath.Join(dir, fmt.Sprint("copy-", i))); err != nil {
			return out, err
		}
		if i == 0 {
			out.backup = time.Since(began)
		}
	}
	out.served = time.Since(began)
	out.answered, out.seeded = out.served, out.served
	return out, nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(io.MultiWriter(out, sha256.New()), in); err != nil {
		return err
	}
	return out.Sync()
}

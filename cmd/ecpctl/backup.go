package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
)

func (a *app) backupCommand() *cobra.Command {
	var minIndex uint64
	var verify, force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Save the whole state of the cluster in a file",
		Long: `Backup fetches a consistent snapshot of the whole state from any node, holds it against its checksum and puts it on
disk under its name only when all of it is there. Secrets are in it as they rest, encrypted. A file that exists is
left alone without --force.`,
		Example: `  ecpctl backup monday.snapshot --verify
  ecpctl backup before.snapshot --min-index 4711`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().Uint64Var(&minIndex, "min-index", 0, "wait until the node has this log index")
	cmd.Flags().BoolVar(&verify, "verify", false, "have a node read the file and all that is in it")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if _, err := os.Lstat(args[0]); err == nil && !force {
			return fmt.Errorf("%s exists; --force replaces it", args[0])
		}
		b, err := saveBackup(cmd.Context(), c, minIndex, args[0])
		if err == nil && verify {
			err = verifyBackup(cmd.Context(), c, b, args[0])
		}
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		return a.show(b, func(t *table) {
			t.line("%s: %d bytes, SHA-256 %s", args[0], b.Bytes, clean(b.SHA256))
			t.line("cluster %s, epoch %s, index %d, term %d", clean(b.Cluster), clean(b.Epoch), b.Index, b.Term)
		})
	})
	return cmd
}

// saveBackup writes a backup beside its place and moves it there when it is
// complete and durable.
func saveBackup(ctx context.Context, c *client.Client, minIndex uint64, path string) (*client.Backup, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b, err := c.Backup(ctx, minIndex, f)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return b, os.Rename(f.Name(), path)
}

// verifyBackup has a node read what is on disk.
func verifyBackup(ctx context.Context, c *client.Client, b *client.Backup, path string) error {
	tried, err := c.Restore(ctx, func() (io.ReadCloser, error) { return os.Open(path) }, b.Cluster, true)
	if err == nil && tried.SHA256 != b.SHA256 {
		err = fmt.Errorf("the file has the SHA-256 %s, not %s", tried.SHA256, b.SHA256)
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	var from string
	var dry, yes bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore the running cluster from a backup",
		Long: `Restore makes tenants, fleets, endpoints and secrets those of the backup, on all nodes at once or on none. Proxies stay
connected and are sent what differs. What was changed since the backup is undone; the archive keeps its record
of it. To make a new cluster from a backup, start one of its nodes with --restore instead.`,
		Example: `  ecpctl restore monday.snapshot --dry-run
  ecpctl restore monday.snapshot --yes
  ecpctl restore of-another-cluster.snapshot --from-cluster b61a07a7985d670e --yes`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&from, "from-cluster", "", "id of the cluster that the backup is from, when it is another one")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only verify the backup and say what it is")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if dry == yes {
			return misuse("restore needs either --dry-run or --yes")
		}
		if info, err := os.Stat(args[0]); err != nil {
			return err
		} else if !info.Mode().IsRegular() {
			return errors.New(args[0] + " is not a file")
		}
		done, err := c.Restore(cmd.Context(), func() (io.ReadCloser, error) { return os.Open(args[0]) }, from, dry)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		return a.show(done, func(t *table) {
			t.line("backup of cluster %s, epoch %s, index %d", clean(done.From.Cluster), clean(done.From.Epoch), done.From.Index)
			if dry {
				t.line("it can be restored; nothing was changed")
			} else {
				t.line("restored at index %d, epoch %s", done.Index, clean(done.Epoch))
			}
		})
	})
	return cmd
}

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// CopyPostgres copies the data of a server that has been stopped to another
// folder, which must not have any. A server started there with the option Follow
// is a standby. Fetched binaries have no program that copies a running one.
func CopyPostgres(ctx context.Context, from *Postgres, to string) error {
	select {
	case <-from.Done():
	default:
		return errors.New("copy postgres: it runs")
	}
	as, err := postgresUser()
	if err != nil {
		return err
	}
	if to, err = postgresDir(to, as); err != nil {
		return fmt.Errorf("copy postgres: %w", err)
	}
	for _, name := range []string{"data", "password"} {
		cmd := exec.CommandContext(ctx, "cp", "-a", filepath.Join(from.Dir, name), filepath.Join(to, name))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("copy postgres: %w: %s", err, out)
		}
	}
	return nil
}

// beStandby marks data as those of a standby. Promotion takes the mark away.
func beStandby(data string, as *syscall.Credential) error {
	mark := filepath.Join(data, "standby.signal")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	return own(mark, as)
}

// Promote makes a standby a primary of its own, with what it has received.
func (p *Postgres) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return fmt.Errorf("promote postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote()").Scan(&promoted); err != nil {
		return fmt.Errorf("promote postgres: %w", err)
	}
	if !promoted {
		return errors.New("promote postgres: it takes too long")
	}
	return nil
}

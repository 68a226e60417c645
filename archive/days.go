package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// daysAhead is how many daily partitions of proxy_metrics are made in advance.
const daysAhead = 14

// maintainDays makes the partitions of proxy_metrics for the days to come and
// drops those that its retention has ended. There is no log time to hold the
// node's clock against, which may stand still for weeks: the database's is.
func (s *session) maintainDays(ctx context.Context, now time.Time) error {
	var made int
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE made)
			FROM generate_series($1::date, $1::date + $2::int, interval '1 day') AS day, proxy_metrics_make_day(day::date) AS made`,
			dayOf(now), daysAhead).Scan(&made)
	})
	if err != nil {
		return fmt.Errorf("make partitions of proxy_metrics: %w", err)
	}
	if made > 0 {
		s.log.Info("archive: partitions of proxy_metrics made", "days", made)
	}
	if s.cfg.MetricsRetention <= 0 {
		return nil
	}
	return s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT proxy_metrics_drop_days(((least($1, now()) - $2::interval) AT TIME ZONE 'UTC')::date)`,
			now, s.cfg.MetricsRetention)
		if err != nil {
			return err
		}
		dropped, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("drop partitions of proxy_metrics: %w", err)
		}
		for _, name := range dropped {
			s.log.Info("archive: partition dropped", "partition", name)
		}
		return nil
	})
}

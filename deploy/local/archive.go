package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
)

// ArchivedOnce returns nil when every event that the node at url knows of is
// in the database, each once, without a gap, and none set aside. The database must hold one
// cluster alone. An archive that is not drained yet is an error too.
func ArchivedOnce(ctx context.Context, url, database string) error {
	var status struct {
		Archive struct {
			LastSeq     int64 `json:"last_seq"`
			ArchivedSeq int64 `json:"archived_seq"`
		}
	}
	if err := getJSON(ctx, url+"/api/v1/cluster", &status); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rows, distinct, last, gaps, aside int64
	err = conn.QueryRow(ctx, `SELECT count(*), count(DISTINCT seq), coalesce(max(seq), 0),
		(SELECT count(*) FROM archive_gaps), (SELECT count(*) FROM archive_quarantine) FROM fleet_events`).
		Scan(&rows, &distinct, &last, &gaps, &aside)
	if err != nil {
		return err
	}
	if rows != distinct || rows != last || gaps+aside > 0 {
		return fmt.Errorf("%d rows, %d sequences, the last is %d, %d gaps, %d set aside", rows, distinct, last, gaps, aside)
	}
	if status.Archive.LastSeq != last || status.Archive.ArchivedSeq != last || last == 0 {
		return fmt.Errorf("%d rows of %+v", rows, status.Archive)
	}
	return nil
}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

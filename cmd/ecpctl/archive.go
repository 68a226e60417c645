package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) archiveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "archive",
		Short:   "Show how the archive in Postgres does",
		Example: `  ecpctl archive status`,
		Args:    cobra.NoArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "status",
		Short: "Show what is stored, what waits, the partitions, and what is wrong",
		Long: `Status shows how far events are stored, the outbox and its bounds, the monthly partitions with Postgres' estimate of
their rows, what is made and dropped next, and what somebody should look at. Any node answers; while the database does
not, the rest is shown.`,
		Example: `  ecpctl archive status
  ecpctl archive status -o json`,
		Args: noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			is, err := c.Archive(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(is, func(t *table) { archiveStatus(t, is) })
		}),
	})
	return cmd
}

func archiveStatus(t *table, is *wire.Archive) {
	for _, alarm := range is.Alarms {
		t.line("ALARM: %s", clean(alarm))
	}
	t.line("archive %s, %d of %d events, the oldest that waits is %s old", clean(is.State), is.ArchivedSeq, is.LastSeq, seconds(is.LagSeconds))
	o := is.Outbox
	t.line("outbox %d of %d bytes, of proxies %d of %d; at the bound: %s; stored events stay for %s, the oldest is %d",
		o.Bytes, o.MaxBytes, o.ProxyBytes, o.MaxProxyBytes, clean(o.Overflow), seconds(o.ReplayWindowSeconds), o.FirstSeq)
	if e := is.LastError; e != nil {
		t.line("last error %s: %s", instant(e.At), clean(e.Error))
	}
	keeps := "for ever"
	if is.RetentionSeconds > 0 {
		keeps = seconds(float64(is.RetentionSeconds)) + " after their end"
	}
	t.line("months are made %d ahead%s and stay %s%s", is.MonthsAhead, next(is.NextMade), keeps, next(is.NextDropped))
	db := is.Database
	if db == nil {
		t.line("database: %s", clean(cmp.Or(is.DatabaseError, "none")))
		return
	}
	if c := db.Cursor; c != nil {
		t.line("cursor %d, by %s in term %d, %s", c.Seq, clean(c.Node), c.Term, instant(c.UpdatedAt))
	}
	t.line("%d events are missing, in %d gaps; %d are set aside", db.GapEvents, db.Gaps, db.Quarantined)
	if db.ReportsAsOf != nil {
		t.line("reports as of %s", instant(*db.ReportsAsOf))
	}
	t.line("")
	t.row("TABLE", "PARTITION", "FROM", "TO", "ROWS", "BYTES")
	for _, of := range db.Tables {
		for _, p := range of.Partitions {
			from, to, rows := "", "", fmt.Sprint("~", p.Rows)
			if p.From != nil && p.To != nil {
				from, to = p.From.Format(time.DateOnly), p.To.Format(time.DateOnly)
			}
			if p.Name == of.Name+"_default" {
				rows = fmt.Sprint(of.DefaultRows)
			}
			t.row(of.Name, p.Name, from, to, rows, p.Bytes)
		}
	}
}

// next says which month is next, and when.
func next(m *wire.ArchiveMonth) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" (next %s, %s)", clean(m.Month), m.At.Format(time.DateOnly))
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

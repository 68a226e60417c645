package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) historyCommand() *cobra.Command {
	var q client.HistoryQuery
	var since, until string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show who changed what, and what the proxies did, newest first",
		Long: `History shows the tenant's committed changes, from the archive, or, without one, the recent ones that the
nodes keep in memory.`,
		Example: `  ecpctl history --fleet edge
  ecpctl history --kind revision_created --by alice --since 24h
  ecpctl history --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --limit 0 -o json`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	addFleet(cmd, &q.Fleet, "only changes of this fleet")
	flags.StringVar(&q.Kind, "kind", "", "only this kind of event, such as revision_created or proxy_rejected")
	flags.StringVar(&q.By, "by", "", "only what this subject did")
	flags.StringVar(&since, "since", "", "not before this `TIME`, RFC 3339 or how long ago (2h)")
	flags.StringVar(&until, "until", "", "before this `TIME`, RFC 3339 or how long ago (30m)")
	flags.IntVar(&q.Limit, "limit", 20, "most events to show; 0: all")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		now := time.Now()
		var err error
		if q.Since, err = instantFlag("since", since, now); err != nil {
			return err
		}
		if q.Until, err = instantFlag("until", until, now); err != nil {
			return err
		}
		if q.Limit < 0 {
			return misuse("--limit must not be negative")
		}
		return a.history(cmd.Context(), c, q)
	})
	return cmd
}

// instantFlag reads a time, or a duration before now.
func instantFlag(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, misuse("--%s %q is neither a time like 2026-11-24T10:00:00Z nor a duration like 2h", name, text)
	}
	return at, nil
}

// history reads pages until there are as many events as wanted.
func (a *app) history(ctx context.Context, c *client.Client, q client.HistoryQuery) error {
	want := q.Limit
	all := wire.History{Items: []wire.Event{}}
	for {
		q.Limit = wire.MaxLimit
		if want > 0 {
			q.Limit = want - len(all.Items)
		}
		page, err := c.History(ctx, q)
		if err != nil {
			return err
		}
		all.Items, all.Source, all.Next = append(all.Items, page.Items...), page.Source, page.Next
		if page.Next == "" || want > 0 && len(all.Items) >= want {
			break
		}
		q.Cursor = page.Next
	}
	if all.Source == wire.SourceMemory {
		a.note("there is no archive: only what the nodes keep in memory")
	}
	return a.show(all, func(t *table) {
		t.row("AT", "SEQ", "FLEET", "BY", "KIND", "WHAT")
		for _, e := range all.Items {
			t.row(e.At, e.Seq, e.Fleet, e.By, e.Kind, what(e))
		}
	})
}

// eventData is what the table shows of an event's data.
type eventData struct {
	Revision   json.Number       `json:"revision"`
	Message    string            `json:"message"`
	Changed    []json.RawMessage `json:"changed"`
	RollbackOf json.Number       `json:"rollback_of"`
	Service    string            `json:"service"`
	Proxy      string            `json:"proxy"`
	Reason     string            `json:"reason"`
	// Of members and leaders.
	Node    string `json:"node"`
	Role    string `json:"role"`
	Term    uint64 `json:"term"`
	Before  string `json:"before"`
	Why     string `json:"why"`
	Created bool   `json:"created"`
	Stream  struct {
		Node string `json:"node"`
	} `json:"stream"`
	Rejection struct {
		Detail string `json:"detail"`
	} `json:"rejection"`
}

// what sums up an event in a few words.
func what(e wire.Event) string {
	var d eventData
	// Of data in another shape, from a newer node, the table shows less.
	_ = json.Unmarshal(e.Data, &d)
	var words []string
	add := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(d.Created, "created")
	add(d.Revision != "" && d.Revision != "0", "revision %s", d.Revision)
	add(len(d.Changed) > 0, "%s", plural(len(d.Changed), "change"))
	add(d.RollbackOf != "" && d.RollbackOf != "0", "rollback to %s", d.RollbackOf)
	add(d.Service != "", "service %s", d.Service)
	add(d.Proxy != "", "proxy %s", d.Proxy)
	add(d.Stream.Node != "", "node %s", d.Stream.Node)
	add(d.Node != "", "node %s", d.Node)
	add(d.Role != "", "%s", d.Role)
	add(d.Term != 0, "term %d", d.Term)
	add(d.Before != "", "before it %s", d.Before)
	add(d.Why != "", "%s", d.Why)
	add(d.Reason != "", "%s", d.Reason)
	add(d.Rejection.Detail != "", "%s", d.Rejection.Detail)
	add(d.Message != "", "%q", d.Message)
	return strings.Join(words, ", ")
}

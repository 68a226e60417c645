package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) eventsCommand() *cobra.Command {
	var q client.EventQuery
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what is committed, in its order, also while it is",
		Long: `Events shows a tenant's events as they are committed, one after the other: changes, what the proxies do
and what they reject. With --follow it begins behind the newest one and goes on until it is interrupted; when
a server ends the stream it goes on at the next one of --server, without a gap or a double.

Without --follow it shows what there is behind --since, or all that is kept, and ends. JSON is one object a line, YAML
one document an event.`,
		Example: `  ecpctl events --follow
  ecpctl events --since 4711 --fleet edge
  ecpctl events --follow --kind proxy_rejected,proxy_recovered -o json
  ecpctl events --follow --cluster`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	flags.StringVar(&q.Since, "since", "", "begin behind the event with this `NUMBER` (tenant_seq; seq with --cluster)")
	flags.StringSliceVar(&q.Kinds, "kind", nil, "only these kinds of events, such as revision_created or proxy_rejected")
	addFleet(cmd, &q.Fleet, "only events of this fleet")
	flags.BoolVar(&q.Cluster, "cluster", false, "the events of the cluster itself, not of the tenant")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if _, err := strconv.ParseUint(q.Since, 10, 63); q.Since != "" && err != nil {
			return misuse("--since %q is not the number of an event", q.Since)
		}
		if q.Cluster && q.Fleet != "" {
			return misuse("the cluster's own events are of no fleet: --cluster and --fleet do not go together")
		}
		q.Once = !follow
		return a.events(cmd.Context(), c, q)
	})
	return cmd
}

// events prints a stream, from the oldest event that is left when nothing else
// was wanted.
func (a *app) events(ctx context.Context, c *client.Client, q client.EventQuery) error {
	all := q.Once && q.Since == ""
	if all {
		q.Since = "0"
	}
	err := a.printEvents(c.Events(ctx, q))
	gone, is := errors.AsType[*client.Error](err)
	if all && is && gone.Code == wire.CodeEventsGone && gone.Oldest > 1 {
		a.note("the oldest event that is kept is %d", gone.Oldest)
		q.Since = strconv.FormatUint(gone.Oldest-1, 10)
		err = a.printEvents(c.Events(ctx, q))
	}
	if ctx.Err() != nil {
		err = nil // interrupted, which is how following ends
	}
	return err
}

func (a *app) printEvents(events iter.Seq2[wire.Event, error]) error {
	const columns = "%-20s  %8v  %-16s  %-16s  %-20s  %s\n"
	head := a.forPeople()
	for e, err := range events {
		if err != nil {
			return err
		}
		if head {
			_, _ = fmt.Fprintf(a.out, columns, "AT", "SEQ", "FLEET", "BY", "KIND", "WHAT")
			head = false
		}
		number := e.TenantSeq
		if e.Tenant == "" {
			number = e.Seq
		}
		switch a.output {
		case "json":
			err = json.NewEncoder(a.out).Encode(e)
		case "yaml":
			var raw []byte
			if raw, err = yaml.Marshal(e); err == nil {
				_, err = fmt.Fprintf(a.out, "---\n%s", raw)
			}
		default:
			_, err = fmt.Fprintf(a.out, columns, instant(e.At), number, dash(clean(e.Fleet)), dash(clean(e.By)), clean(e.Kind), dash(clean(what(e))))
		}
		if err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
	}
	return nil
}

// dash stands for an empty cell.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
)

// Metric is one metric with its labels, of a fleet or a proxy, over an interval.
type Metric struct {
	// From and To bound what of the interval is reported. Proxy is empty where it
	// is of a fleet's Proxies.
	From, To time.Time
	// Kind is "counter", "gauge" or "histogram", Labels an object.
	Fleet, Proxy, Name, Kind string
	Labels                   json.RawMessage
	Proxies                  int
	// Count of samples, of a histogram's observations.
	Count int64
	// Value is how much a counter went up, the sum over the proxies of a gauge's
	// averages, the average observation of a histogram.
	Value float64
	// Min and Max are a gauge's, the percentiles a histogram's; else nil.
	Min, Max, P50, P90, P99 *float64

	labels  string // as Postgres writes and compares them
	buckets buckets
}

// How much time a report of metrics covers, in intervals.
const (
	usualIntervals = 60
	maxIntervals   = 1500
)

// measure is where a page of metrics ends.
type measure struct {
	Since  time.Time `json:"s"`
	Until  time.Time `json:"u"`
	From   time.Time `json:"f"`
	Fleet  string    `json:"fl"`
	Proxy  string    `json:"p"`
	Labels string    `json:"l"`
	Kind   string    `json:"k"`
}

// Metrics reports what proxies have measured of one metric, by interval, newest
// first. Fleets are those that the tenant has, unless one is named.
func (a *Archive) Metrics(ctx context.Context, q ReportQuery) (*Report[Metric], error) {
	labels, length, err := q.boundMetrics()
	if err != nil {
		return nil, err
	}
	last := measure{Since: q.Since, Until: q.Until}
	if err := decodeCursor(q.Cursor, &last); err != nil {
		return nil, err
	}
	q.Since, q.Until = last.Since, last.Until
	if q.Until.Sub(q.Since) > (maxIntervals+1)*length {
		return nil, fsm.Refusal(fsm.CodeInvalid, "cursor: it is of another interval")
	}
	out := &Report[Metric]{Since: q.Since, Until: q.Until}
	err = a.read(ctx, func(ctx context.Context, r *reading) error {
		m := &metricsReader{reading: r, query: &q, labels: labels, length: length, last: last}
		if err := m.begin(ctx); err != nil {
			return err
		}
		out.Items, err = m.page(ctx)
		return err
	})
	if len(out.Items) > q.Limit {
		out.Items = out.Items[:q.Limit]
		end := out.Items[q.Limit-1]
		out.Next = encodeCursor(measure{q.Since, q.Until, end.From, end.Fleet, end.Proxy, end.labels, end.Kind})
	}
	return out, err
}

// boundMetrics completes a query. It returns the labels to select by and the
// length of an interval.
func (q *ReportQuery) boundMetrics() (labels string, length time.Duration, err error) {
	q.Interval, q.Group = cmp.Or(q.Interval, "minute"), cmp.Or(q.Group, "fleet")
	length, ok := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[q.Interval]
	switch {
	case !ok:
		return "", 0, fsm.Refusal(fsm.CodeInvalid, "interval: it is minute, hour or day")
	case q.Name == "":
		return "", 0, fsm.Refusal(fsm.CodeInvalid, "name: which metric is needed")
	case q.Group != "fleet" && q.Group != "proxy":
		return "", 0, fsm.Refusal(fsm.CodeInvalid, "group: it is fleet or proxy")
	}
	if err := q.bound(usualIntervals*length, maxRange); err != nil {
		return "", 0, err
	}
	if q.Until.Sub(q.Since) > maxIntervals*length {
		return "", 0, fsm.Refusal(fsm.CodeInvalid, "since: a report covers at most %d intervals; a longer interval covers more", maxIntervals)
	}
	q.Since = q.Since.Truncate(length)
	labels, err = labelsJSON(q.Labels)
	return labels, length, err
}

// labelsJSON turns "a=1,b=2" into an object.
func labelsJSON(text string) (string, error) {
	labels := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if text == "" {
			break
		}
		if !ok || name == "" {
			return "", fsm.Refusal(fsm.CodeInvalid, "labels: %.80q is not NAME=VALUE", pair)
		}
		labels[clean(name)] = clean(value)
	}
	out, _ := json.Marshal(labels) // strings always marshal
	return string(out), nil
}

// metricsReader reads a page.
type metricsReader struct {
	*reading
	query    *ReportQuery
	labels   string
	length   time.Duration
	last     measure
	clusters []string
	before   []time.Time
	fleets   []string
}

// metricLineage are the clusters that this one went on from, each with the time
// from which on what it wrote is another's.
const metricLineage = `
WITH RECURSIVE l AS (
    SELECT cluster, parent_cluster, parent_epoch, created_at, '9999-01-01 00:00+00'::timestamptz AS before, 1 AS depth
    FROM archive_epochs WHERE cluster = $1 AND epoch = $2
  UNION ALL
    SELECT p.cluster, p.parent_cluster, p.parent_epoch, p.created_at,
        CASE WHEN p.cluster = l.cluster THEN l.before ELSE l.created_at END, l.depth + 1
    FROM l JOIN archive_epochs p ON p.cluster = l.parent_cluster AND p.epoch = l.parent_epoch
    WHERE l.depth < 1000)
SELECT cluster, max(before) FROM l GROUP BY cluster`

// begin finds out whose rows are read.
func (m *metricsReader) begin(ctx context.Context) error {
	id := m.st.Identity()
	rows, err := m.tx.Query(ctx, metricLineage, id.GetClusterId(), id.GetEpoch())
	if err != nil {
		return err
	}
	var cluster string
	var before time.Time
	_, err = pgx.ForEachRow(rows, []any{&cluster, &before}, func() error {
		m.clusters, m.before = append(m.clusters, cluster), append(m.before, before)
		return nil
	})
	if m.query.Fleet != "" {
		m.fleets = []string{m.query.Fleet}
		return err
	}
	for f := range m.st.Fleets(m.query.Tenant, "") {
		m.fleets = append(m.fleets, f.Name)
	}
	return err
}

// page reads one row more than a page, in windows that begin with the newest
// intervals and grow, so that what is read is in proportion to what is found.
func (m *metricsReader) page(ctx context.Context) (items []Metric, err error) {
	until := m.query.Until
	if !m.last.From.IsZero() {
		if end := m.last.From.Add(m.length); end.Before(until) {
			until = end
		}
	}
	for n := 4; until.After(m.query.Since) && len(items) <= m.query.Limit; n *= 2 {
		since := until.Add(-time.Nanosecond).Truncate(m.length).Add(-time.Duration(n-1) * m.length)
		if since.Before(m.query.Since) {
			since = m.query.Since
		}
		more, err := m.window(ctx, since, until, m.query.Limit+1-len(items))
		if err != nil {
			return nil, err
		}
		items, until = append(items, more...), since
	}
	return items, nil
}

// window reads the rows of some intervals.
func (m *metricsReader) window(ctx context.Context, since, until time.Time, limit int) ([]Metric, error) {
	sql, args := m.totals(since, until, limit)
	rows, err := m.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	items, err := pgx.CollectRows(rows, m.scan)
	if err != nil {
		return nil, err
	}
	return items, m.quantiles(ctx, items)
}

// selected are the rows of a metric; %s is what else they are joined with.
const selected = `FROM unnest($1::text[], $2::timestamptz[]) AS s (cluster, before)
    JOIN proxy_metrics m ON m.cluster = s.cluster AND m.at < s.before%s
    WHERE m.tenant = $3 AND m.fleet = ANY($4) AND m.name = $5 AND m.at >= $6 AND m.at < $7`

func (m *metricsReader) selected(since, until time.Time, join string) (sql string, args []any) {
	args = []any{m.clusters, m.before, m.query.Tenant, m.fleets, m.query.Name, since, until}
	sql = fmt.Sprintf(selected, join)
	if m.query.Proxy != "" {
		args = append(args, m.query.Proxy)
		sql += " AND m.proxy = $" + strconv.Itoa(len(args))
	}
	if m.labels != "{}" {
		args = append(args, m.labels)
		sql += " AND m.labels @> $" + strconv.Itoa(len(args)) + "::jsonb"
	}
	return sql, args
}

// period is the beginning of a row's interval.
func (m *metricsReader) period() string {
	return "date_bin('1 " + m.query.Interval + "', m.at, '2000-01-01 00:00+00')"
}

// proxy is what rows are shown of beside their fleet.
func (m *metricsReader) proxy() string {
	if m.query.Group == "proxy" {
		return "proxy"
	}
	return "''"
}

// totals sums each proxy's rows up, and then those of a fleet: of a gauge the
// averages over the time of each proxy.
func (m *metricsReader) totals(since, until time.Time, limit int) (string, []any) {
	rows, args := m.selected(since, until, "")
	param := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	after := ""
	if !m.last.From.IsZero() {
		from := param(m.last.From)
		after = fmt.Sprintf("WHERE period < %s OR period = %s AND (fleet, proxy, labels::text, kind) > (%s, %s, %s, %s)\n",
			from, from, param(m.last.Fleet), param(m.last.Proxy), param(m.last.Labels), param(m.last.Kind))
	}
	return fmt.Sprintf(`WITH each AS (
    SELECT %[1]s AS period, m.fleet, m.proxy, m.labels, m.kind,
        sum(m.count) AS count, sum(m.sum) AS sum, min(m.min) AS min, max(m.max) AS max
    %[2]s
    GROUP BY 1, 2, 3, 4, 5
), shown AS (
    SELECT period, fleet, %[3]s AS proxy, labels, kind, count(*) AS proxies, sum(count)::bigint AS count,
        sum(CASE kind WHEN 'gauge' THEN sum / count ELSE sum END) AS sum, min(min) AS min, max(max) AS max
    FROM each GROUP BY 1, 2, 3, 4, 5
)
SELECT period, fleet, proxy, labels::text, kind, proxies, count, sum, min, max FROM shown
%[4]sORDER BY period DESC, fleet, proxy, labels::text, kind LIMIT %[5]s`,
		m.period(), rows, m.proxy(), after, param(limit)), args
}

func (m *metricsReader) scan(row pgx.CollectableRow) (Metric, error) {
	x := Metric{Name: m.query.Name}
	err := row.Scan(&x.From, &x.Fleet, &x.Proxy, &x.labels, &x.Kind, &x.Proxies, &x.Count, &x.Value, &x.Min, &x.Max)
	x.From, x.Labels = x.From.UTC(), json.RawMessage(x.labels)
	x.To = x.From.Add(m.length)
	if m.query.Until.Before(x.To) {
		x.To = m.query.Until
	}
	if x.Kind == "histogram" && x.Count > 0 {
		x.Value /= float64(x.Count)
	}
	return x, err
}

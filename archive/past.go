package archive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// maxPastBytes bounds the content of a past revision.
	maxPastBytes = 256 << 20
	// maxRestores bounds the restores that a past revision may lie behind.
	maxRestores = 1000
)

// Revision returns a past revision of a fleet with all its resources: the
// newest that had the number. It is put together out of the changes that led
// to it; when one of them is missing there is none.
func (a *Archive) Revision(ctx context.Context, tenant, fleet string, n uint64) (*fsm.Revision, error) {
	var out *fsm.Revision
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		p := &past{reading: r, tenant: tenant, fleet: fleet}
		chain, err := p.chain(ctx, n)
		if err != nil {
			return err
		}
		info, err := p.info(ctx, chain[0])
		if err != nil {
			return err
		}
		resources, err := p.resources(ctx, chain)
		if err != nil {
			return err
		}
		out = fsm.NewRevision(info, resources)
		return nil
	})
	return out, err
}

// past puts a revision together.
type past struct {
	*reading
	tenant, fleet string
}

// link is one of the changes that led to a revision.
type link struct {
	history
	seq uint64
}

// ancestry returns the spans that the present content comes from, newest
// first. It differs from the lineage of events where a backup was restored:
// what was there before the restore did not lead to what is.
func (p *past) ancestry(ctx context.Context) ([]span, error) {
	var out []span
	spans := p.spans
	for range maxRestores {
		restored := false
		for _, sp := range spans {
			var seq, fromSeq int64
			var from history
			err := p.tx.QueryRow(ctx, `SELECT seq, coalesce(data->'from'->>'cluster_id', ''), coalesce(data->'from'->>'epoch', ''),
				coalesce((data->>'from_seq')::bigint, 0)
				FROM fleet_events WHERE cluster = $1 AND epoch = $2 AND tenant = '' AND seq BETWEEN $3 AND $4 AND kind = 'state_restored'
				ORDER BY seq DESC LIMIT 1`, sp.clusterID, sp.epoch, int64(sp.first), int64(sp.through)).
				Scan(&seq, &from.clusterID, &from.epoch, &fromSeq)
			if errors.Is(err, pgx.ErrNoRows) {
				out = append(out, sp)
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, span{sp.history, uint64(seq), sp.through})
			if spans, err = readLineage(ctx, p.tx, from, uint64(fromSeq)); err != nil {
				return nil, err
			}
			restored = true
			break
		}
		if !restored {
			return out, nil
		}
	}
	return out, nil
}

// chain returns the changes that led to a revision, the newest first.
func (p *past) chain(ctx context.Context, n uint64) ([]link, error) {
	spans, err := p.ancestry(ctx)
	if err != nil {
		return nil, err
	}
	missing := fsm.Refusal(fsm.CodeRevisionNotFound, "neither the state nor the archive has revision %d of fleet %q", n, p.fleet)
	var chain []link
	var gaps []span
	for want := n; want > 0 && len(spans) > 0; spans = spans[1:] {
		sp := spans[0]
		rows, err := p.tx.Query(ctx, `SELECT seq, revision FROM fleet_revisions
			WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND fleet = $4 AND revision <= $5 AND seq BETWEEN $6 AND $7 ORDER BY seq DESC`,
			sp.clusterID, sp.epoch, p.tenant, p.fleet, int64(want), int64(sp.first), int64(sp.through))
		if err != nil {
			return nil, err
		}
		var seq, revision int64
		whole := sp // what of the span lies between the links
		_, err = pgx.ForEachRow(rows, []any{&seq, &revision}, func() error {
			if want == 0 || uint64(revision) != want {
				return nil
			}
			if want == n {
				whole.through = uint64(seq)
			}
			chain = append(chain, link{sp.history, uint64(seq)})
			if want--; want == 0 {
				whole.first = uint64(seq)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(chain) > 0 {
			gaps = append(gaps, whole)
		}
	}
	if uint64(len(chain)) != n || n == 0 {
		return nil, missing
	}
	for _, sp := range gaps {
		var gap bool
		err := p.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM archive_gaps
			WHERE cluster = $1 AND epoch = $2 AND to_seq >= $3 AND from_seq <= $4)`,
			sp.clusterID, sp.epoch, int64(sp.first), int64(sp.through)).Scan(&gap)
		if err != nil {
			return nil, err
		}
		if gap {
			return nil, fsm.Refusal(fsm.CodeRevisionNotFound,
				"the archive lacks some of the changes that led to revision %d of fleet %q", n, p.fleet)
		}
	}
	return chain, nil
}

// info describes the revision that a change made.
func (p *past) info(ctx context.Context, l link) (*fsmpb.Revision, error) {
	info := &fsmpb.Revision{Tenant: p.tenant, Fleet: p.fleet}
	var revision, index, rollbackOf int64
	var at time.Time
	err := p.tx.QueryRow(ctx, `SELECT revision, log_index, at, by, message, rollback_of FROM fleet_revisions
		WHERE cluster = $1 AND epoch = $2 AND seq = $3`, l.clusterID, l.epoch, int64(l.seq)).
		Scan(&revision, &index, &at, &info.By, &info.Message, &rollbackOf)
	if err != nil {
		return nil, err
	}
	info.Revision, info.Index, info.RollbackOf, info.At = uint64(revision), uint64(index), uint64(rollbackOf), at.UnixNano()
	rows, err := p.tx.Query(ctx, `SELECT op, type, name, version FROM fleet_revision_resources
		WHERE cluster = $1 AND epoch = $2 AND seq = $3 ORDER BY type COLLATE "C", name COLLATE "C"`, l.clusterID, l.epoch, int64(l.seq))
	if err != nil {
		return nil, err
	}
	info.Changed, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*fsmpb.Change, error) {
		c := &fsmpb.Change{}
		var op string
		err := row.Scan(&op, &c.TypeUrl, &c.Name, &c.Version)
		c.Op = fsmpb.Change_Op(fsmpb.Change_Op_value[strings.ToUpper(op)])
		return c, err
	})
	return info, err
}

const pastResources = `
WITH chain AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS c (cluster, epoch, seq, place)),
newest AS (
    SELECT DISTINCT ON (r.type, r.name) c.*, r.type, r.name, r.op
    FROM chain c JOIN fleet_revision_resources r USING (cluster, epoch, seq) ORDER BY r.type, r.name, c.place)
SELECT type, name, r.version, r.body, r.aliases, coalesce(r.ttl_ms, 0)
FROM newest n JOIN fleet_revision_resources r USING (cluster, epoch, seq, type, name) WHERE n.op <> 'removed'`

// resources are what a chain of changes comes to.
func (p *past) resources(ctx context.Context, chain []link) ([]*fsmpb.Resource, error) {
	clusters, epochs, seqs := make([]string, len(chain)), make([]string, len(chain)), make([]int64, len(chain))
	for i, l := range chain {
		clusters[i], epochs[i], seqs[i] = l.clusterID, l.epoch, int64(l.seq)
	}
	rows, err := p.tx.Query(ctx, pastResources, clusters, epochs, seqs)
	if err != nil {
		return nil, err
	}
	size := 0
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*fsmpb.Resource, error) {
		res := &fsmpb.Resource{}
		err := row.Scan(&res.TypeUrl, &res.Name, &res.Version, &res.Body, &res.Aliases, &res.TtlMs)
		if err != nil {
			return nil, err
		}
		if size += len(res.Body); size > maxPastBytes {
			return nil, fsm.Refusal(fsm.CodeInvalid, "the revision has more than %d bytes", maxPastBytes)
		}
		res.Hash = fsm.ResourceHash(res.Body, res.Aliases, res.TtlMs)
		index, _, _ := strings.Cut(res.Version, "-")
		if res.Index, err = strconv.ParseUint(index, 10, 64); err != nil {
			return nil, fmt.Errorf("version %q: %w", res.Version, err)
		}
		return res, nil
	})
}

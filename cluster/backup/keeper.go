package backup

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
)

const (
	// retryFirst is the time from a failure to the next attempt; it doubles up
	// to retryMost, or to the interval.
	retryFirst = 5 * time.Second
	retryMost  = 5 * time.Minute
	// namelessFor is the time between two looks whether a new cluster has
	// been given its id.
	namelessFor = 100 * time.Millisecond
	// skewAllowance is how far a backup may be ahead of this node's clock.
	skewAllowance = 10 * time.Minute
)

// Config says where to, when, and what stays.
type Config struct {
	Target Target
	// Every is the time between two backups, at least a second.
	Every time.Duration
	// Keep is how many backups stay, the newest ones; 0: all. Those younger
	// than KeepFor stay as well.
	Keep    int
	KeepFor time.Duration
}

// Cluster is what a Keeper needs of the Raft node.
type Cluster interface {
	// WhileLeading calls do each time that the node becomes leader, with a
	// context that ends when it is no longer.
	WhileLeading(ctx context.Context, do func(ctx context.Context, term uint64) error) error
	// State returns the newest state applied here.
	State() *fsm.State
}

// Deps is what a Keeper works with.
type Deps struct {
	Log *slog.Logger
	// Registry is given the metrics; nil: nobody is.
	Registry prometheus.Registerer
	Cluster  Cluster
}

// Keeper makes the backups of a cluster while its node leads it.
type Keeper struct {
	cfg     Config
	log     *slog.Logger
	cluster Cluster
	metrics *metrics
	// retry is retryFirst, shorter in tests.
	retry time.Duration

	mu sync.Mutex
	// now is what Report tells of, last what the metrics do: the newest backup
	// that this node has verified, in whichever term.
	now  view
	last Backup
}

// New makes a Keeper.
func New(cfg Config, deps Deps) *Keeper {
	k := &Keeper{cfg: cfg, log: deps.Log, cluster: deps.Cluster, retry: retryFirst}
	k.metrics = newMetrics(deps.Registry, k)
	return k
}

// Run makes backups while the node leads, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	return k.cluster.WhileLeading(ctx, func(ctx context.Context, _ uint64) error {
		k.begin()
		defer k.end()
		k.lead(ctx)
		return nil
	})
}

// lead keeps the schedule until ctx ends.
func (k *Keeper) lead(ctx context.Context) {
	t := &tenure{Keeper: k, verdicts: map[string]error{}}
	retry := k.retry
	for ctx.Err() == nil {
		id := k.cluster.State().Identity().GetClusterId()
		if id == "" {
			pause(ctx, namelessFor)
			continue
		}
		due, err := t.round(ctx, id)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			k.failed(err)
			k.log.Error("the backup has failed", "target", k.cfg.Target.String(), "error", err, "again_in", retry)
			pause(ctx, retry)
			retry = min(2*retry, retryMost, max(k.cfg.Every, k.retry))
		default:
			retry = k.retry
			pause(ctx, time.Until(due))
		}
	}
}

// tenure is what a leader has found out about the target.
type tenure struct {
	*Keeper
	// verdicts tell of each backup that was read whether it is what its name
	// says.
	verdicts map[string]error
}

// round makes a backup if one is due, and then removes what need not stay
// beside it. It returns when the next one is due.
func (t *tenure) round(ctx context.Context, cluster string) (due time.Time, err error) {
	found, err := t.list(ctx, cluster)
	if err != nil {
		return due, err
	}
	last, err := t.newest(ctx, found)
	if err != nil {
		return due, err
	}
	if due = last.At.Add(t.cfg.Every); last.Name != "" && time.Now().Before(due) {
		t.succeeded(last, nil)
		return due, nil
	}
	made, err := t.make(ctx, t.cluster.State())
	if err != nil {
		return due, err
	}
	t.succeeded(made, t.tidy(ctx, append(found, made), made))
	return made.At.Add(t.cfg.Every), nil
}

// list returns the cluster's backups, newest first. Those from the future are
// left out: it may be long until they count.
func (t *tenure) list(ctx context.Context, cluster string) ([]Backup, error) {
	ctx, _, cancel := whileMoving(ctx)
	defer cancel()
	objects, err := t.cfg.Target.List(ctx, prefixOf(cluster))
	if err != nil {
		return nil, err
	}
	var out []Backup
	for _, o := range objects {
		b, ok := parse(o.Name)
		if !ok || b.Cluster != cluster {
			continue
		}
		if ahead := time.Until(b.At); ahead > skewAllowance {
			t.log.Warn("a backup from the future is passed over", "name", b.Name, "ahead", ahead.Round(time.Second))
			continue
		}
		b.Size = o.Size
		out = append(out, b)
	}
	newestFirst(out)
	return out, nil
}

func newestFirst(backups []Backup) {
	slices.SortFunc(backups, func(a, b Backup) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Index, a.Index), cmp.Compare(b.Name, a.Name))
	})
}

// newest returns the first one that is what its name says; the zero value when
// there is none. Each is read once in a term. One that cannot be read is an
// error while no other is due; later it must not be in the way of the next.
func (t *tenure) newest(ctx context.Context, found []Backup) (Backup, error) {
	for _, b := range found {
		verdict, known := t.verdicts[b.Name]
		if !known {
			var err error
			if verdict, err = t.verify(ctx, b); err != nil && time.Since(b.At) < t.cfg.Every {
				return Backup{}, err
			} else if err != nil {
				t.log.Warn("the last backup cannot be read", "target", t.cfg.Target.String(), "name", b.Name, "error", err)
				return Backup{}, nil
			}
			if verdict != nil {
				t.log.Error("a backup is damaged and does not count", "target", t.cfg.Target.String(), "name", b.Name, "error", verdict)
			}
			t.verdicts[b.Name] = verdict
		}
		if verdict == nil {
			return b, nil
		}
	}
	return Backup{}, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

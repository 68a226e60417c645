package api

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Deps is what a Server needs of the other parts.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Cluster  Cluster
	// Resources checks Envoy messages.
	Resources Resources
	// Secrets encrypts secrets; nil: there is no key, and their routes refuse.
	Secrets Sealer
	// History reads the archive; nil without one: history then comes from
	// the events that the state still holds.
	History History
	// Past reads the archive's events in their order, for streams that begin
	// before what the state still holds; nil without an archive.
	Past Past
	// Archived reports from the archive; nil without one.
	Archived Archived
	// Archive says in a word how the archive does ("ok", "lagging", "down"),
	// and why; nil without one: "off".
	Archive func() (state, reason string)
	// Ready lists the parts that decide whether the node is ready. It is
	// ready when all of them are OK.
	Ready func() []wire.Part
	// Auth tells who sends a request; nil: by the secret in Config, or,
	// without one, everybody is an anonymous administrator.
	Auth Authenticator
}

// Cluster is what the API needs of the Raft node.
type Cluster interface {
	// State returns the newest state applied here.
	State() *fsm.State
	// Propose has a command decided by the leader, wherever it is. A refusal
	// is a Result with a code; an error means that none was heard.
	Propose(ctx context.Context, c *fsmpb.Command) (*fsmpb.Result, error)
	// ReadIndex returns a log index that every acknowledged write is at or
	// below.
	ReadIndex(ctx context.Context) (uint64, error)
	// WaitApplied waits until the state here has reached an index.
	WaitApplied(ctx context.Context, index uint64) (*fsm.State, error)
	// Gather asks all live nodes, this one included, and returns the answers
	// and the nodes that failed.
	Gather(ctx context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error)
	// Report describes the cluster and its nodes.
	Report(ctx context.Context) (*fsmpb.ClusterReport, error)
	// TransferLeadership moves leadership to a node, or to any for "".
	TransferLeadership(ctx context.Context, node string) error
	// RemoveNode takes a node out of the cluster.
	RemoveNode(ctx context.Context, node string) error
	// Finalize raises the feature level to what all nodes support.
	Finalize(ctx context.Context, by string) (*fsmpb.Result, error)
	// DrainNode has a node hand its xDS streams over within a time (0: its
	// own), or take streams again.
	DrainNode(ctx context.Context, node string, on bool, within time.Duration) error
	// SetVoting has a node give its vote up, or be ready for one again.
	SetVoting(ctx context.Context, node string, willing bool) error
	// StageBackup verifies a backup and keeps it on this node's disk; SpreadBackup
	// has the others take it over, as RestoreState needs.
	StageBackup(r io.Reader) (sha256 [32]byte, st *fsm.State, err error)
	SpreadBackup(ctx context.Context, sha256 [32]byte) error
	LeaderID() string
	NodeID() string
	Term() uint64
}

// Resources turns what clients send into what the state holds, and back.
type Resources interface {
	// Decode reads one item of a change set. The problems' paths begin with
	// path.
	Decode(path string, raw []byte) (*fsmpb.Resource, []wire.FieldError)
	// DecodeEndpoints reads the ClusterLoadAssignment of a service.
	DecodeEndpoints(service string, raw []byte) (body, hash []byte, problems []wire.FieldError)
	// DecodeSecret reads a Secret, which plain then holds in clear. Its
	// problems tell nothing of what is inside.
	DecodeSecret(name string, raw []byte) (plain []byte, info *fsmpb.SecretInfo, problems []wire.FieldError)
	// JSON returns a stored message as JSON with its @type.
	JSON(typeURL string, body []byte) ([]byte, error)
	// Extract returns what a stored message needs and binds.
	Extract(typeURL string, body []byte) (references []*fsmpb.Reference, binds []string, err error)
}

// Sealer encrypts secrets before they become commands.
type Sealer interface {
	// Seal encrypts the secret of a tenant and name, and says by which key.
	Seal(tenant, name string, plain []byte) (sealed []byte, keyID string)
	// Digest tells content apart, and tells nothing to whom the key is
	// unknown.
	Digest(parts ...[]byte) []byte
}

// History reads past events of a tenant, newest first.
type History interface {
	History(ctx context.Context, q HistoryQuery) (HistoryPage, error)
}

// Archived answers from what the archive has.
type Archived interface {
	Changes(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedChange], error)
	Convergence(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedConvergence], error)
	Rejections(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedRejections], error)
	Proxies(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedProxies], error)
	Availability(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedAvailability], error)
	Metrics(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedMetric], error)
	// Revision returns a past revision with all its resources.
	Revision(ctx context.Context, tenant, fleet string, n uint64) (*fsm.Revision, error)
	// Inventory tells what the database has.
	Inventory(ctx context.Context) (*wire.ArchiveDatabase, error)
}

// ReportQuery bounds a report. Zero values select all, and the usual time.
type ReportQuery struct {
	Tenant, Fleet, By, Kind, Interval string
	Name, Proxy, Labels, Group        string
	Since, Until                      time.Time
	// Cursor is the Next of the page before.
	Cursor string
	Limit  int
}

// HistoryQuery selects events. Zero values select all.
type HistoryQuery struct {
	Tenant, Fleet, Kind, By string
	Since, Until            time.Time
	// Cursor is the Next of the page before.
	Cursor string
	Limit  int
}

// HistoryPage is one page of events.
type HistoryPage struct {
	Events []wire.Event
	// Next is opaque, empty on the last page.
	Next string
}

// Past reads past events in the order in which they were committed.
type Past interface {
	// EventsAfter returns up to limit events of a tenant above a tenant_seq.
	EventsAfter(ctx context.Context, tenant string, number uint64, limit int) ([]wire.Event, error)
	// OwnEventsAfter returns those of the cluster itself above a seq, and the
	// sequence up to which nothing is missing behind that.
	OwnEventsAfter(ctx context.Context, seq uint64, limit int) (events []wire.Event, through uint64, err error)
	// NumberAt returns the number, as above, of the last event of the log entries
	// up to an index; 0 when there is none.
	NumberAt(ctx context.Context, tenant string, index uint64) (uint64, error)
}

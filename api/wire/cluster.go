package wire

import (
	"encoding/json"
	"time"
)

// States of an archive.
const (
	// ArchiveOff: without a database.
	ArchiveOff = "off"
	ArchiveOK  = "ok"
	// ArchiveLagging: an event has waited for long.
	ArchiveLagging = "lagging"
	// ArchiveDown: the leader cannot write.
	ArchiveDown = "down"
)

// Roles of a control plane node.
const (
	RoleVoter    = "voter"
	RoleNonvoter = "nonvoter"
)

// Cluster is the control plane cluster as the answering node sees it.
type Cluster struct {
	ID    string `json:"id"`
	Epoch string `json:"epoch"`
	// Leader is a node id, empty when there is none.
	Leader string `json:"leader"`
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"`
	// FeatureLevel is what the state behaves as.
	FeatureLevel uint32        `json:"feature_level"`
	Nodes        []Node        `json:"nodes"`
	Archive      ArchiveStatus `json:"archive"`
	// ReadOnly is there while the cluster is read-only.
	ReadOnly *ReadOnly `json:"read_only,omitempty"`
	// Plan is the next change of the membership, or what it waits for; empty
	// when it is as it should be.
	Plan string `json:"plan,omitempty"`
	// Backup is there when the leader answers and makes backups.
	Backup *BackupStatus `json:"backup,omitempty"`
}

// States of the scheduled backups.
const (
	BackupOK      = "ok"
	BackupFailing = "failing"
	BackupOverdue = "overdue"
)

// BackupStatus is how the scheduled backups do.
type BackupStatus struct {
	// State is BackupOK, BackupFailing or BackupOverdue.
	State string `json:"state"`
	// Target is the directory or the bucket.
	Target string `json:"target"`
	// Last is the newest backup that was verified.
	Last *StoredBackup `json:"last,omitempty"`
	// Reason says why it is not well.
	Reason string `json:"reason,omitempty"`
}

// StoredBackup is a backup in the target of the scheduled ones.
type StoredBackup struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
	Index uint64    `json:"index"`
	Bytes uint64    `json:"bytes"`
}

// Node is one member of the control plane cluster.
type Node struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// Role is RoleVoter or RoleNonvoter.
	Role    string `json:"role"`
	Leader  bool   `json:"leader"`
	Healthy bool   `json:"healthy"`
	// Stale: it serves the last committed state on its disk, without having
	// found a majority since its start.
	Stale bool `json:"stale,omitempty"`
	// Draining: it hands its xDS streams over and takes none.
	Draining bool `json:"draining,omitempty"`
	// Applied is its last applied log index.
	Applied uint64 `json:"applied"`
	// Streams counts open xDS streams.
	Streams uint32 `json:"streams"`
	Build   string `json:"build"`
	// SupportedLevel is the highest feature level of its binary.
	SupportedLevel uint32 `json:"supported_level,omitempty"`
	Zone           string `json:"zone,omitempty"`
	APIAddress     string `json:"api_address,omitempty"`
	XDSAddress     string `json:"xds_address,omitempty"`
	// Reason says why it is not healthy.
	Reason string `json:"reason,omitempty"`
}

// ArchiveStatus is how far the archive is. It is drained when LastSeq and
// ArchivedSeq are equal.
type ArchiveStatus struct {
	// State is ArchiveOff, ArchiveOK, ArchiveLagging or ArchiveDown.
	State       string `json:"state"`
	LastSeq     uint64 `json:"last_seq"`
	ArchivedSeq uint64 `json:"archived_seq"`
	OutboxBytes uint64 `json:"outbox_bytes"`
	Reason      string `json:"reason,omitempty"`
}

// LeaderTransfer asks for another leader; with Node empty the cluster picks.
type LeaderTransfer struct {
	Node string `json:"node,omitempty"`
}

// LeaderTransferred answers with the leader after the transfer.
type LeaderTransferred struct {
	Leader string `json:"leader"`
}

// NodeRemoved answers the removal of a node from the cluster.
type NodeRemoved struct {
	Node string `json:"node"`
}

// Where History comes from.
const (
	// SourceArchive: Postgres, complete.
	SourceArchive = "archive"
	// SourceMemory: the recent events that the nodes keep.
	SourceMemory = "memory"
)

// History is one page of events, newest first.
type History struct {
	Items []Event `json:"items"`
	Next  string  `json:"next,omitempty"`
	// Source is SourceArchive or SourceMemory.
	Source string `json:"source"`
}

// Event is one committed change.
type Event struct {
	// Seq is contiguous over the cluster, TenantSeq within the tenant.
	Seq       uint64          `json:"seq"`
	TenantSeq uint64          `json:"tenant_seq"`
	Index     uint64          `json:"index"`
	At        time.Time       `json:"at"`
	Tenant    string          `json:"tenant"`
	Fleet     string          `json:"fleet"`
	Kind      string          `json:"kind"`
	By        string          `json:"by"`
	Data      json.RawMessage `json:"data"`
}

// EventPosition is a message between the events of a WebSocket: how far the stream
// has come, past what a filter has left out.
type EventPosition struct {
	// Position is what "since" takes to go on from there, "<epoch>/<number>".
	Position string `json:"position"`
}

// Health answers while the process is alive.
type Health struct {
	// Status is "ok".
	Status string `json:"status"`
}

// Ready says whether a node serves, and why or why not, part by part.
type Ready struct {
	Ready bool   `json:"ready"`
	Node  string `json:"node"`
	Parts []Part `json:"parts"`
}

// Part is one part's share of readiness.
type Part struct {
	Name string `json:"name"`
	// OK: the part lets the node be ready. Degraded: it does, but not all is
	// well.
	OK       bool   `json:"ok"`
	Degraded bool   `json:"degraded"`
	Reason   string `json:"reason,omitempty"`
}

// Version is the build of a node.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// NodeDraining answers that a node was told to drain, or to take streams again.
type NodeDraining struct {
	Node     string `json:"node"`
	Draining bool   `json:"draining"`
}

// NodeVoting answers that a node was told to give its vote up, or to be ready
// for one again.
type NodeVoting struct {
	Node    string `json:"node"`
	Willing bool   `json:"willing"`
}

// Restored answers a restore, or a dry run of one.
type Restored struct {
	// SHA256 of the backup, in hexadecimal digits.
	SHA256 string `json:"sha256"`
	// Index of the restore, 0 of a dry run; Epoch is the one that began with it,
	// or that would end.
	Index  uint64       `json:"index"`
	Epoch  string       `json:"epoch"`
	From   RestoredFrom `json:"from"`
	DryRun bool         `json:"dry_run"`
}

// RestoredFrom is where a backup is from.
type RestoredFrom struct {
	Cluster string `json:"cluster"`
	Epoch   string `json:"epoch"`
	Index   uint64 `json:"index"`
	Seq     uint64 `json:"seq"`
}

// ReadOnlySet begins or ends the refusal of all that tenants write.
type ReadOnlySet struct {
	ReadOnly bool   `json:"read_only"`
	Message  string `json:"message,omitempty"`
}

// ReadOnly says whether the cluster refuses what tenants write.
type ReadOnly struct {
	ReadOnly bool `json:"read_only"`
	// Index is the log index at which it took effect: no later write of a
	// tenant is applied. In the answer to the end of it: the index from which
	// on writes pass.
	Index uint64 `json:"index,omitempty"`
	// Since, By and Message are there while it is read-only.
	Since   *time.Time `json:"since,omitempty"`
	By      string     `json:"by,omitempty"`
	Message string     `json:"message,omitempty"`
}

// Finalized answers with the feature level and the log index at which the
// cluster came to it.
type Finalized struct {
	FeatureLevel uint32 `json:"feature_level"`
	Index        uint64 `json:"index"`
}

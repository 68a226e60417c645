package wire

import (
	"encoding/json"
	"time"
)

// ArchiveOff is the State of an archive without a database.
const ArchiveOff = "off"

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
	Nodes  []Node `json:"nodes"`
	// Plan is the next change of the membership, or what it waits for; empty
	// when it is as it should be.
	Plan    string        `json:"plan,omitempty"`
	Archive ArchiveStatus `json:"archive"`
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
	Streams    uint32 `json:"streams"`
	Build      string `json:"build"`
	Zone       string `json:"zone,omitempty"`
	APIAddress string `json:"api_address,omitempty"`
	XDSAddress string `json:"xds_address,omitempty"`
	// Reason says why it is not healthy.
	Reason string `json:"reason,omitempty"`
}

// ArchiveStatus is how far the archive is. It is drained when LastSeq and
// ArchivedSeq are equal.
type ArchiveStatus struct {
	// State is ArchiveOff without a database, else a word of the archive's:
	// "ok", "lagging" or "down".
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

package wire

import "time"

// A proxy's Status and Sync.
const (
	StatusConnected    = "connected"
	StatusDisconnected = "disconnected"

	SyncSynced   = "synced"
	SyncPending  = "pending"
	SyncRejected = "rejected"
)

// Proxy is one Envoy that has connected at least once.
type Proxy struct {
	ID      string   `json:"id"`
	Tenant  string   `json:"tenant"`
	Fleet   string   `json:"fleet"`
	Streams []Stream `json:"streams"`
	// DuplicateID: two peers use this id at once.
	DuplicateID bool   `json:"duplicate_id"`
	Status      string `json:"status"`
	// Sync is against the fleet's current revision; SyncPending, unless it
	// has rejected something, while no node tells of its streams.
	Sync string `json:"sync"`
	// Revision is the newest that all its streams are synced with.
	Revision uint64            `json:"revision"`
	Build    string            `json:"build"`
	Locality *Locality         `json:"locality,omitempty"`
	Labels   map[string]string `json:"labels"`
	// Types is by short type, over all streams.
	Types map[string]TypeStatus `json:"types"`
	// WaitingFor is what a pending proxy has to acknowledge next.
	WaitingFor string    `json:"waiting_for,omitempty"`
	FirstSeen  time.Time `json:"first_seen"`
	ChangedAt  time.Time `json:"changed_at"`
}

// Locality is where a proxy says that it runs.
type Locality struct {
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	SubZone string `json:"sub_zone,omitempty"`
}

// Stream is one live xDS stream of a proxy.
type Stream struct {
	// Node serves the stream.
	Node string `json:"node"`
	Peer string `json:"peer"`
	// Protocol is "sotw" or "delta".
	Protocol string `json:"protocol"`
	// Types are those that it subscribes to; empty while its node does not
	// answer.
	Types []string  `json:"types"`
	Since time.Time `json:"since"`
}

// TypeStatus is how far a proxy is with one type.
type TypeStatus struct {
	// Sent and Acked are versions.
	Sent  string `json:"sent"`
	Acked string `json:"acked"`
	// Rejected is set while the last answer to what was sent is a NACK.
	Rejected *Rejected `json:"rejected,omitempty"`
}

// Rejected is a NACK with Envoy's text.
type Rejected struct {
	Version string    `json:"version"`
	Detail  string    `json:"detail"`
	At      time.Time `json:"at"`
}

// FleetStatus says how far a fleet's proxies are with a revision.
type FleetStatus struct {
	Tenant   string `json:"tenant"`
	Fleet    string `json:"fleet"`
	Revision uint64 `json:"revision"`
	// Proxies sum up: connected = synced + pending + rejected.
	Proxies ProxyCounts `json:"proxies"`
	// Converged: every connected proxy is synced, and every node that serves
	// streams has answered.
	Converged  bool        `json:"converged"`
	Rejections []Rejection `json:"rejections"`
	// Pending names the first 100 that are on their way.
	Pending []PendingProxy `json:"pending,omitempty"`
	// Missing names nodes that did not answer; their proxies count as
	// pending.
	Missing []MissingNode `json:"missing,omitempty"`
}

// ProxyCounts of a fleet.
type ProxyCounts struct {
	Connected    int `json:"connected"`
	Synced       int `json:"synced"`
	Pending      int `json:"pending"`
	Rejected     int `json:"rejected"`
	Disconnected int `json:"disconnected"`
}

// Rejection is one proxy's NACK of a revision.
type Rejection struct {
	Proxy  string `json:"proxy"`
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

// PendingProxy is a connected proxy that is not synced yet.
type PendingProxy struct {
	Proxy string `json:"proxy"`
	// Revision is the newest that it is synced with.
	Revision   uint64 `json:"revision"`
	WaitingFor string `json:"waiting_for,omitempty"`
}

// MissingNode is a control plane node that did not answer in time.
type MissingNode struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

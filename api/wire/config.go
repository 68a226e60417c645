package wire

import (
	"encoding/json"
	"time"
)

// A resource's status on a stream.
const (
	ConfigSynced   = "synced"   // the proxy accepted what it should have
	ConfigPending  = "pending"  // sent, not answered yet
	ConfigRejected = "rejected" // sent and rejected
	ConfigNotSent  = "not_sent" // waits for its turn
	ConfigAbsent   = "absent"   // asked for, and there is none
	ConfigUnknown  = "unknown"  // no stream tells
)

// ProxyConfig is what a proxy should have and, where known, what it has.
type ProxyConfig struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	Fleet  string `json:"fleet"`
	Status string `json:"status"`
	// Revision is the fleet's current one.
	Revision uint64 `json:"revision"`
	// Streams are those that the nodes tell of.
	Streams []StreamConfig `json:"streams"`
	// Types is what the fleet has for the proxy while no stream is told of:
	// what it would ask for is not known.
	Types []TypeConfig `json:"types,omitempty"`
	// Missing names nodes that did not answer.
	Missing []MissingNode `json:"missing,omitempty"`
}

// StreamConfig is a proxy's configuration on one stream.
type StreamConfig struct {
	Node     string    `json:"node"`
	Peer     string    `json:"peer"`
	Protocol string    `json:"protocol"`
	Since    time.Time `json:"since"`
	// Revision is the newest that the stream is synced with.
	Revision   uint64       `json:"revision"`
	WaitingFor string       `json:"waiting_for,omitempty"`
	Types      []TypeConfig `json:"types"`
}

// TypeConfig is the resources of one type, by name.
type TypeConfig struct {
	Type string `json:"type"`
	// Wildcard: all that there are, beside those named.
	Wildcard  bool             `json:"wildcard"`
	Resources []ResourceConfig `json:"resources"`
}

// ResourceConfig is one resource. Versions are empty where there is none.
type ResourceConfig struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Should string `json:"should"`
	Sent   string `json:"sent"`
	Acked  string `json:"acked"`
	// Rejected is set with ConfigRejected; its version is empty for a
	// removal.
	Rejected *Rejected `json:"rejected,omitempty"`
	// Resource is the message that it should have or, if none, has; of
	// secrets never.
	Resource json.RawMessage `json:"resource,omitempty"`
}

// Retried says how many rejected responses are sent once more.
type Retried struct {
	Retried int           `json:"retried"`
	Missing []MissingNode `json:"missing,omitempty"`
}

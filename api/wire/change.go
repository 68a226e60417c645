package wire

import (
	"encoding/json"
	"time"
)

// Modes of a change set.
const (
	// ModeMerge keeps what the change set does not list.
	ModeMerge = "merge"
	// ModeReplace removes it.
	ModeReplace = "replace"
)

// What a Change did to a resource.
const (
	OpAdded   = "added"
	OpUpdated = "updated"
	OpRemoved = "removed"
)

// ChangeSet makes one revision of a fleet, or none when nothing differs.
type ChangeSet struct {
	Message string `json:"message,omitempty"`
	// ExpectRevision refuses the change unless the fleet is at it.
	ExpectRevision *uint64 `json:"expect_revision,omitempty"`
	// Mode is ModeMerge when empty.
	Mode string `json:"mode,omitempty"`
	// Upsert holds Envoy messages with @type, or
	// envoy.service.discovery.v3.Resource around one.
	Upsert []json.RawMessage `json:"upsert,omitempty"`
	Delete []ResourceKey     `json:"delete,omitempty"`
}

// ResourceKey names a resource of a fleet.
type ResourceKey struct {
	// Type is a short type ("listener") or a type URL.
	Type string `json:"type"`
	Name string `json:"name"`
}

// Rollback makes a new revision with the content of an older one.
type Rollback struct {
	To             uint64  `json:"to"`
	Message        string  `json:"message,omitempty"`
	ExpectRevision *uint64 `json:"expect_revision,omitempty"`
}

// Changed answers a change set or a rollback. 201: a new revision. 200: no
// difference, or a dry run.
type Changed struct {
	// Revision is the new one, or the current one when nothing differs or in
	// a dry run.
	Revision uint64 `json:"revision"`
	// Index is the log index of the write; of the state in a dry run.
	Index   uint64   `json:"index"`
	Changed []Change `json:"changed"`
	// Warnings name what is allowed and probably not meant.
	Warnings []FieldError `json:"warnings,omitempty"`
	DryRun   bool         `json:"dry_run,omitempty"`
	// Affected is set in a dry run.
	Affected *Affected `json:"affected,omitempty"`
}

// Affected says which proxies a dry run's change would reach.
type Affected struct {
	// Connected proxies of the fleet; 0 when nothing would change.
	Connected int `json:"connected"`
	// Proxies names the first 100 of them.
	Proxies []string `json:"proxies"`
}

// Change is one difference between two revisions.
type Change struct {
	// Op is OpAdded, OpUpdated or OpRemoved.
	Op string `json:"op"`
	// Type is a short type where there is one, else a type URL without
	// "type.googleapis.com/".
	Type string `json:"type"`
	Name string `json:"name"`
	// Version after the change; absent when removed.
	Version string `json:"version,omitempty"`
	// Before and After are the messages, with ?content=true on a diff or a
	// dry run.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Revision is one immutable, numbered set of a fleet's resources.
type Revision struct {
	Revision uint64    `json:"revision"`
	Index    uint64    `json:"index"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Message  string    `json:"message"`
	// Changed is against the revision before.
	Changed []Change `json:"changed"`
	// RollbackOf is the revision whose content this one took up again.
	RollbackOf uint64 `json:"rollback_of,omitempty"`
	// Resources counts them by type; only in the answer for one revision.
	Resources map[string]int `json:"resources,omitempty"`
}

// Diff is the difference between two revisions of a fleet.
type Diff struct {
	// From is 0 when compared with an empty fleet.
	From    uint64   `json:"from"`
	To      uint64   `json:"to"`
	Changed []Change `json:"changed"`
}

// Resource is one Envoy message of a revision.
type Resource struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Index is the log index of the entry that wrote it.
	Index   uint64   `json:"index"`
	Aliases []string `json:"aliases,omitempty"`
	// TTL is a duration, "30s".
	TTL string `json:"ttl,omitempty"`
	// Resource is the message with its @type.
	Resource json.RawMessage `json:"resource"`
}

// Endpoints is a tenant's ClusterLoadAssignment of one service.
type Endpoints struct {
	Service string    `json:"service"`
	Tenant  string    `json:"tenant"`
	Version string    `json:"version"`
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	// Resource is the ClusterLoadAssignment with its @type.
	Resource json.RawMessage `json:"resource"`
}

// EndpointsWritten answers a PUT of endpoints. 201: they are new. 200: they
// replaced others, or nothing differs.
type EndpointsWritten struct {
	Service   string       `json:"service"`
	Tenant    string       `json:"tenant"`
	Index     uint64       `json:"index"`
	Unchanged bool         `json:"unchanged,omitempty"`
	Warnings  []FieldError `json:"warnings,omitempty"`
}

package wire

// Tenant owns everything below it.
type Tenant struct {
	Name string `json:"name"`
	// Index is the log index of its last change.
	Index  uint64            `json:"index"`
	Labels map[string]string `json:"labels"`
}

// TenantWritten answers a PUT of a tenant. 201: it is new. 200: it was there.
type TenantWritten struct {
	Name      string            `json:"name"`
	Index     uint64            `json:"index"`
	Labels    map[string]string `json:"labels"`
	Unchanged bool              `json:"unchanged,omitempty"`
}

// TenantPut creates or updates a tenant; its labels replace the old ones.
type TenantPut struct {
	Labels map[string]string `json:"labels,omitempty"`
}

// Fleet is a named set of proxies that share one configuration.
type Fleet struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Revision is the current one, 0 before the first change set.
	Revision uint64 `json:"revision"`
	// Index is the log index of the last change, its revision included.
	Index    uint64            `json:"index"`
	Labels   map[string]string `json:"labels"`
	Settings FleetSettings     `json:"settings"`
	// Proxies counts those registered in the fleet, Connected the ones of
	// them with a live stream.
	Proxies   int `json:"proxies"`
	Connected int `json:"connected"`
}

// FleetWritten answers a PUT of a fleet. 201: it is new. 200: it was there.
type FleetWritten struct {
	Name      string            `json:"name"`
	Tenant    string            `json:"tenant"`
	Revision  uint64            `json:"revision"`
	Index     uint64            `json:"index"`
	Labels    map[string]string `json:"labels"`
	Settings  FleetSettings     `json:"settings"`
	Unchanged bool              `json:"unchanged,omitempty"`
}

// FleetPut creates or updates a fleet; labels and settings replace the old
// ones.
type FleetPut struct {
	Labels   map[string]string `json:"labels,omitempty"`
	Settings *FleetSettings    `json:"settings,omitempty"`
}

// FleetSettings are what an operator may tune about a fleet.
type FleetSettings struct {
	// RevisionHistoryLimit is how many revisions stay in memory; 0 means the
	// default (100).
	RevisionHistoryLimit uint32 `json:"revision_history_limit,omitempty"`
}

// Deleted answers a DELETE that was done, now or under the same
// Idempotency-Key before.
type Deleted struct {
	// Index is the log index of the deletion.
	Index uint64 `json:"index"`
}

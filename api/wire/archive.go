package wire

import "time"

// Archive is how the archive does, in detail: what the state and the leader's
// writer tell, and what the database does, if it answers.
type Archive struct {
	// State and Reason are as in ArchiveStatus.
	State       string `json:"state"`
	Reason      string `json:"reason,omitempty"`
	LastSeq     uint64 `json:"last_seq"`
	ArchivedSeq uint64 `json:"archived_seq"`
	// LagSeconds is the age of the oldest event that waits.
	LagSeconds float64       `json:"lag_seconds"`
	Outbox     ArchiveOutbox `json:"outbox"`
	// LastError is the newest failure of the leader's writer, over or not.
	LastError *ArchiveError `json:"last_error,omitempty"`
	// RetentionSeconds is how long a month stays after it has ended, 0: for ever;
	// MonthsAhead how many are made in advance. The leader's.
	RetentionSeconds uint64 `json:"retention_seconds"`
	MonthsAhead      uint32 `json:"months_ahead"`
	// NextMade and NextDropped are the months whose partitions are next.
	NextMade    *ArchiveMonth `json:"next_made,omitempty"`
	NextDropped *ArchiveMonth `json:"next_dropped,omitempty"`
	// Database is what it tells, absent when it does not answer, or is not there:
	// DatabaseError says why.
	Database      *ArchiveDatabase `json:"database,omitempty"`
	DatabaseError string           `json:"database_error,omitempty"`
	// Alarms are what somebody should look at.
	Alarms []string `json:"alarms"`
}

// ArchiveOutbox is what waits for the database, and its bounds.
type ArchiveOutbox struct {
	Bytes uint64 `json:"bytes"`
	// MaxBytes is the bound of all events, MaxProxyBytes that of what crowds of
	// proxies cause by themselves; 0 while the archive is off.
	MaxBytes      uint64 `json:"max_bytes"`
	ProxyBytes    uint64 `json:"proxy_bytes"`
	MaxProxyBytes uint64 `json:"max_proxy_bytes"`
	// CollapsedProxies have had transitions that did not fit.
	CollapsedProxies int `json:"collapsed_proxies"`
	// Overflow is what happens at the bound: "block" or "gap".
	Overflow string `json:"overflow"`
	// ReplayWindowSeconds is how long stored events stay, FirstSeq the oldest.
	ReplayWindowSeconds float64 `json:"replay_window_seconds"`
	FirstSeq            uint64  `json:"first_seq"`
}

// ArchiveError is a failure of the archive's writer.
type ArchiveError struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// ArchiveMonth is a month whose partitions are made or dropped at a time.
type ArchiveMonth struct {
	// Month as "2026-11".
	Month string    `json:"month"`
	At    time.Time `json:"at"`
}

// ArchiveDatabase is what the database has.
type ArchiveDatabase struct {
	// Cursor is absent until the cluster's present epoch has one.
	Cursor *ArchiveCursor `json:"cursor,omitempty"`
	// Gaps counts the gaps of all histories there, GapEvents what they lack.
	Gaps      uint64 `json:"gaps"`
	GapEvents uint64 `json:"gap_events"`
	// LastGapAt is when the newest was noticed.
	LastGapAt *time.Time `json:"last_gap_at,omitempty"`
	// Quarantined are the events of all histories that are set aside, in
	// archive_quarantine, because Postgres refuses them.
	Quarantined uint64 `json:"quarantined"`
	// ReportsAsOf is the log time until which reports count.
	ReportsAsOf *time.Time     `json:"reports_as_of,omitempty"`
	Tables      []ArchiveTable `json:"tables"`
}

// ArchiveCursor is how far the database is, and who wrote last.
type ArchiveCursor struct {
	Seq       uint64    `json:"seq"`
	Term      uint64    `json:"term"`
	Node      string    `json:"node"`
	UpdatedAt time.Time `json:"updated_at"`
}

// ArchiveTable is a table with monthly partitions.
type ArchiveTable struct {
	Name string `json:"name"`
	// DefaultRows fit in no partition; counted up to 10,000.
	DefaultRows uint64             `json:"default_rows"`
	Partitions  []ArchivePartition `json:"partitions"`
}

// ArchivePartition is one part of a table.
type ArchivePartition struct {
	Name string `json:"name"`
	// From is inclusive, To exclusive; absent for the default partition.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	// Rows is Postgres' estimate; Bytes counts indexes, too.
	Rows  uint64 `json:"rows"`
	Bytes uint64 `json:"bytes"`
}

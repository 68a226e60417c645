// Package migrations holds the archive's schema as numbered SQL files and
// applies them, forward only.
//
// A file's name is its number and what it does, "0001_archive.sql". A file
// that was released is never changed (its checksum is kept in the database)
// and never removed; a change is a new file, and one that nodes of the
// release before can still write with: they do while an upgrade rolls on.
//
// Writers are not stopped: an index of a table that exists is built beside them,
// before the transaction of its migration, and no lock is waited for longer than a
// second at a time.
//
// Applied by the archive's writer when a node becomes leader, and by the
// migrate command. Nothing here knows what the rows mean.
package migrations

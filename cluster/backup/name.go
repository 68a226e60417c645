package backup

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// stampLayout of the time in a name: names of one cluster sort by time.
const stampLayout = "20060102T150405Z"

var namePattern = regexp.MustCompile(`^ecp-([^-/]+)-(\d{8}T\d{6}Z)-(\d{1,20})-([0-9a-f]{64})\.snap$`)

// Backup is one in a target. Its name says what it is.
type Backup struct {
	Name    string
	Cluster string
	// At is when it was made, in whole seconds.
	At     time.Time
	Index  uint64
	SHA256 [32]byte
	Size   int64
}

// prefixOf begins the names of a cluster's backups.
func prefixOf(cluster string) string { return "ecp-" + cluster + "-" }

func nameOf(cluster string, at time.Time, index uint64, sum [32]byte) string {
	return fmt.Sprintf("%s%s-%d-%x.snap", prefixOf(cluster), at.UTC().Format(stampLayout), index, sum)
}

// parse returns what a name says; ok is false for names of other things.
func parse(name string) (b Backup, ok bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return b, false
	}
	at, err := time.Parse(stampLayout, m[2])
	if err != nil {
		return b, false
	}
	index, err := strconv.ParseUint(m[3], 10, 64)
	if err != nil {
		return b, false
	}
	sum, err := hex.DecodeString(m[4])
	if err != nil {
		return b, false
	}
	return Backup{Name: name, Cluster: m[1], At: at, Index: index, SHA256: [32]byte(sum)}, true
}

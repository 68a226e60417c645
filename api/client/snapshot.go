package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// snapshotLimit bounds one attempt at a backup or a restore.
const snapshotLimit = time.Hour

// BackupFile is where a backup goes; an *os.File is one.
type BackupFile interface {
	io.WriteSeeker
	Truncate(size int64) error
}

// Backup says what a backup is.
type Backup struct {
	Cluster string `json:"cluster"`
	Epoch   string `json:"epoch"`
	Index   uint64 `json:"index"`
	Term    uint64 `json:"term"`
	// SHA256 in hexadecimal digits, Bytes the size.
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Backup fetches a consistent snapshot of the whole state, at minIndex or
// later, into a file, and holds the bytes against their checksum.
func (c *Client) Backup(ctx context.Context, minIndex uint64, to BackupFile) (*Backup, error) {
	query := url.Values{}
	if minIndex > 0 {
		query.Set("min_index", strconv.FormatUint(minIndex, 10))
	}
	d := &download{to: to}
	err := c.do(ctx, &request{method: http.MethodGet, path: pathOf("cluster", "snapshot"), query: query, long: snapshotLimit}, d)
	return orNil(&d.is, err)
}

// Restore makes the content of a backup that of the cluster. open is called
// for each attempt. fromCluster names the cluster that the backup is from when it
// is another one. A dry run verifies the backup and changes nothing.
func (c *Client) Restore(ctx context.Context, open func() (io.ReadCloser, error), fromCluster string, dryRun bool) (*wire.Restored, error) {
	query := url.Values{}
	if fromCluster != "" {
		query.Set("from_cluster", fromCluster)
	}
	if dryRun {
		query.Set("dry_run", "true")
	}
	var out wire.Restored
	err := c.do(ctx, &request{
		method: http.MethodPut, path: pathOf("cluster", "snapshot"), query: query, key: newKey(), long: snapshotLimit, upload: open,
	}, &out)
	return orNil(&out, err)
}

// download takes one attempt's backup.
type download struct {
	to BackupFile
	is Backup
}

func (d *download) take(server string, answer *http.Response) error {
	if err := d.to.Truncate(0); err != nil {
		return fmt.Errorf("begin the backup: %w", err)
	}
	if _, err := d.to.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("begin the backup: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(d.to, h), answer.Body)
	if err != nil {
		return fmt.Errorf("fetch the backup from %s: %w", server, err)
	}
	sum := h.Sum(nil)
	if want, got := answer.Header.Get(wire.HeaderDigest), "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":"; got != want {
		return fmt.Errorf("the backup from %s is damaged: its digest is %s, not %s", server, got, want)
	}
	d.is = Backup{
		Cluster: answer.Header.Get(wire.HeaderCluster), Epoch: answer.Header.Get(wire.HeaderEpoch),
		SHA256: hex.EncodeToString(sum), Bytes: n,
	}
	d.is.Index, _ = strconv.ParseUint(answer.Header.Get(wire.HeaderIndex), 10, 64) // every answer has both
	d.is.Term, _ = strconv.ParseUint(answer.Header.Get(wire.HeaderTerm), 10, 64)
	return nil
}

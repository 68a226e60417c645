package api

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// snapshotLimit bounds how long a backup may take on its way.
const snapshotLimit = time.Hour

// getSnapshot streams the state as a backup. It is written twice, first for
// its size and checksum: a client knows from the head what it must have at the end.
func (s *Server) getSnapshot(c *call) (*answer, error) {
	st, _, err := s.stateFor(c)
	if err != nil {
		return nil, err
	}
	c.bound(snapshotLimit)
	c.reflect(st)
	st = st.WithoutReadOnly()
	sum, size, err := st.Measure()
	if err != nil {
		return nil, err
	}
	header := c.w.Header()
	header.Set("Content-Type", wire.MediaSnapshot)
	header.Set("Content-Length", strconv.FormatInt(size, 10))
	header.Set(wire.HeaderDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	header.Set(wire.HeaderCluster, st.Identity().GetClusterId())
	header.Set(wire.HeaderTerm, strconv.FormatUint(s.deps.Cluster.Term(), 10))
	return &answer{stream: st.WriteSnapshot}, nil
}

// putSnapshot restores the cluster from a backup.
func (s *Server) putSnapshot(c *call) (*answer, error) {
	dry, err := c.flag("dry_run")
	if err != nil {
		return nil, err
	}
	if media := c.r.Header.Get("Content-Type"); media != "" && media != wire.MediaSnapshot {
		return nil, refuse(wire.CodeUnsupportedMedia, "%q is not %s", media, wire.MediaSnapshot)
	}
	c.bound(snapshotLimit)
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(snapshotLimit)) // without deadlines there is no slow sender
	take := s.deps.Cluster.StageBackup
	if dry {
		take = fsm.ReadBackup
	}
	sum, from, err := take(c.r.Body)
	if err != nil {
		return nil, notStaged(err)
	}
	here := s.deps.Cluster.State()
	foreign := from.Identity().GetClusterId()
	if given := c.query.Get("from_cluster"); foreign != here.Identity().GetClusterId() && foreign != given {
		return nil, refuse(wire.CodeForeignSnapshot, "it is a backup of cluster %q: say from_cluster to restore it here", foreign)
	}
	out := wire.Restored{
		SHA256: hex.EncodeToString(sum[:]), DryRun: dry, Epoch: here.Identity().GetEpoch(),
		From: wire.RestoredFrom{Cluster: foreign, Epoch: from.Identity().GetEpoch(), Index: from.Index(), Seq: from.Seq()},
	}
	if dry {
		return &answer{body: out}, nil
	}
	if err := s.deps.Cluster.SpreadBackup(c.ctx, sum); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(out.SHA256)
	if err != nil {
		return nil, fmt.Errorf("encode a checksum: %w", err)
	}
	var epoch [8]byte
	_, _ = rand.Read(epoch[:]) // never fails
	r, err := s.propose(c, raw, &fsmpb.Command{Op: &fsmpb.Command_RestoreState{
		RestoreState: &fsmpb.RestoreState{Sha256: sum[:], Epoch: hex.EncodeToString(epoch[:])},
	}})
	if err != nil {
		return nil, err
	}
	out.Index, out.Epoch = r.GetIndex(), s.deps.Cluster.State().Identity().GetEpoch()
	return &answer{body: out}, nil
}

// notStaged says why a backup was not taken.
func notStaged(err error) error {
	switch {
	case errors.Is(err, fsm.ErrNotSnapshot), errors.Is(err, fsm.ErrDamaged), errors.Is(err, fsm.ErrNewerSnapshot):
		return refuse(wire.CodeInvalidSnapshot, "%v", err)
	case errors.Is(err, syscall.ENOSPC):
		return refuse(wire.CodeStorageFull, "there is no room for the backup on this node's disk")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(wire.CodeRequestTimeout, "the body did not arrive in time")
	}
	return refuse(wire.CodeInvalidSnapshot, "the body cannot be read: %v", err)
}

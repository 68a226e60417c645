package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// fetchChunk is how much of a backup goes into one message.
	fetchChunk = 256 << 10
	// fetchAgain is the time between two looks for a backup that nobody has.
	fetchAgain = 200 * time.Millisecond
	// stageTimeout is how long one node may take to take a backup over.
	stageTimeout = 2 * time.Minute
)

// StageBackup verifies a backup and puts it on this node's disk. It returns the
// SHA-256 and what the backup holds.
func (n *Node) StageBackup(r io.Reader) ([32]byte, *fsm.State, error) {
	sum, st, err := n.backups.add(r)
	return sum, st, err
}

// SpreadBackup has every server that answers take a staged backup over from
// this one. Those that do not fetch it when they need it. Refused as unavailable
// unless a majority of the voters has the backup on disk: then RestoreState
// may be proposed, which needs it.
func (n *Node) SpreadBackup(ctx context.Context, sha256 [32]byte) error {
	sum := checksum(sha256)
	rt := n.rt.Load()
	if rt == nil {
		return errNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	var (
		mu           sync.Mutex
		wg           sync.WaitGroup
		voters, have int
		missing      []string
	)
	for _, s := range rt.servers() {
		wg.Go(func() {
			err := n.stageAt(ctx, rt, string(s.ID), sum)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				n.log.Warn("a node has not taken the backup over", "server_id", s.ID, "error", err)
			}
			switch {
			case s.Suffrage != raft.Voter:
			case err != nil:
				voters++
				missing = append(missing, fmt.Sprintf("%s (%v)", nodeOf(string(s.ID)), err))
			default:
				voters++
				have++
			}
		})
	}
	wg.Wait()
	if have <= voters/2 {
		slices.Sort(missing)
		return fsm.Refusal(fsm.CodeUnavailable, "too few voters have taken the backup over; not: %s", strings.Join(missing, ", "))
	}
	return nil
}

func (n *Node) stageAt(ctx context.Context, rt *runtime, serverID string, sum checksum) error {
	if serverID == n.ident.ServerID() {
		if !n.backups.has(sum) {
			return fs.ErrNotExist
		}
		return nil
	}
	client, err := rt.peers.to(serverID)
	if err != nil {
		return err
	}
	outcome, err := client.Stage(ctx, &clusterpb.StageRequest{Sha256: sum[:], From: n.ident.ServerID()})
	if err != nil {
		return err
	}
	return errorOf(outcome)
}

// findBackup returns the state of a backup that an entry needs. It takes it
// over from another node when it is not here, and waits until one has it; nil
// when ctx ends first.
func (n *Node) findBackup(ctx context.Context, sum checksum) *fsm.State {
	var told time.Time
	for {
		st, err := n.backups.state(sum)
		if err == nil {
			return st
		}
		if !errors.Is(err, fs.ErrNotExist) {
			n.log.Error("a backup on disk cannot be read, fetching it again", "sha256", sum.String(), "error", err)
		}
		if err := n.fetchFromAny(ctx, sum); err == nil {
			continue
		} else if time.Since(told) > sayEvery {
			told = time.Now()
			n.log.Warn("the log needs a backup that no other node has sent yet; nothing is applied until one does", "sha256", sum.String(), "error", err)
		}
		if !pause(ctx, fetchAgain) {
			return nil
		}
	}
}

func (n *Node) fetchFromAny(ctx context.Context, sum checksum) error {
	rt := n.rt.Load()
	if rt == nil {
		return errors.New("the node is starting")
	}
	errs := []error{errors.New("it is on no other node")}
	for _, s := range rt.servers() {
		if id := string(s.ID); id != n.ident.ServerID() {
			err := n.fetch(ctx, rt, sum, id)
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", nodeOf(id), err))
		}
	}
	return errors.Join(errs...)
}

// fetch takes a backup over from another node.
func (n *Node) fetch(ctx context.Context, rt *runtime, sum checksum, from string) error {
	client, err := rt.peers.to(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	stream, err := client.Fetch(ctx, &clusterpb.FetchRequest{Sha256: sum[:]})
	if err != nil {
		return err
	}
	got, _, err := n.backups.add(&chunkReader{stream: stream})
	if err == nil && got != sum {
		err = fmt.Errorf("it sent %s", got)
	}
	return err
}

// chunkReader reads what Fetch sends.
type chunkReader struct {
	stream grpc.ServerStreamingClient[clusterpb.Chunk]
	rest   []byte
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		chunk, err := c.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		c.rest = chunk.GetData()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Stage implements clusterpb.PeerServer.
func (s *server) Stage(ctx context.Context, req *clusterpb.StageRequest) (*clusterpb.Outcome, error) {
	rt := s.n.rt.Load()
	sum, ok := checksumOf(req.GetSha256())
	if rt == nil || !ok {
		return said(fsm.Refusal(fsm.CodeUnavailable, "the node does not run, or this is no checksum")), nil
	}
	if s.n.backups.has(sum) {
		return said(nil), nil
	}
	return said(s.n.fetch(ctx, rt, sum, req.GetFrom())), nil
}

// Fetch implements clusterpb.PeerServer.
func (s *server) Fetch(req *clusterpb.FetchRequest, stream grpc.ServerStreamingServer[clusterpb.Chunk]) error {
	sum, ok := checksumOf(req.GetSha256())
	if !ok {
		return errors.New("this is no checksum")
	}
	f, err := os.Open(s.n.backups.path(sum))
	if err != nil {
		return errors.New("this node does not have it")
	}
	defer f.Close()
	for buf := make([]byte, fetchChunk); ; {
		got, err := f.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = stream.Send(&clusterpb.Chunk{Data: bytes.Clone(buf[:got])})
		}
		if err != nil {
			return err
		}
	}
}

// seedOf returns the checksum of the backup that the cluster goes on from, or
// would if it were made now; empty: none.
func (n *Node) seedOf() string { return cmp.Or(n.ident.get().Seed, n.given) }

// takeSeed puts the backup that a new cluster is to go on from on disk. A node
// that belongs to a cluster has no need of it.
func (n *Node) takeSeed() error {
	if n.cfg.Restore == "" {
		return nil
	}
	if id := n.ident.ClusterID(); id != "" {
		n.log.Info("the node belongs to a cluster, the backup is not looked at", "cluster_id", id, "restore", n.cfg.Restore)
		return nil
	}
	f, err := os.Open(n.cfg.Restore)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	sum, st, err := n.backups.add(f)
	if err != nil {
		return fmt.Errorf("restore %s: %w", n.cfg.Restore, err)
	}
	if from := st.Identity().GetClusterId(); from != n.cfg.FromCluster {
		return fmt.Errorf("restore %s: it is a backup of cluster %q, not of %q", n.cfg.Restore, from, n.cfg.FromCluster)
	}
	n.given = sum.String()
	return nil
}

// pruneBackups removes the backups that no entry of the log needs. A cluster
// that has yet to be given its identity needs its seed.
func (n *Node) pruneBackups(log raft.LogStore) error {
	entries, err := os.ReadDir(n.backups.dir)
	if err != nil || len(entries) == 0 {
		return nil //nolint:nilerr // there are none
	}
	keep := map[checksum]bool{}
	if seed, err := parseChecksum(n.seedOf()); err == nil {
		keep[seed] = true
	}
	first, err := log.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	for i := max(first, 1); i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		entry := &fsmpb.Entry{}
		if l.Type != raft.LogCommand || proto.Unmarshal(l.Data, entry) != nil {
			continue
		}
		for _, sum := range fsm.Backups(entry) {
			if sum, ok := checksumOf(sum); ok {
				keep[sum] = true
			}
		}
	}
	return n.backups.prune(keep)
}

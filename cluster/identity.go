package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/store"
)

// identityFile holds who the node is, below the data directory.
const identityFile = "node.json"

// identity is who the node is, as the disk has it. A change counts once it is
// on disk.
type identity struct {
	dir string

	mu sync.Mutex
	id *clusterpb.Identity // replaced, never modified
}

// loadIdentity reads the identity in dir, or makes one for a new directory.
func loadIdentity(dir, nodeID string) (*identity, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	i, err := readIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		i = &identity{dir: dir, id: &clusterpb.Identity{}}
		return i, i.create(nodeID)
	}
	if err != nil {
		return nil, err
	}
	if i.id.NodeId != nodeID {
		return nil, fmt.Errorf("%s belongs to node %q, this one is %q: a data directory never changes its node",
			filepath.Join(dir, identityFile), i.id.NodeId, nodeID)
	}
	if i.id.ClusterId != "" && i.id.Promise == nil {
		return i, store.Complete(dir)
	}
	return i, nil
}

// readIdentity reads the identity in dir and changes nothing.
func readIdentity(dir string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	i := &identity{dir: dir, id: &clusterpb.Identity{}}
	if err := protojson.Unmarshal(body, i.id); err != nil || i.id.Incarnation == "" {
		return nil, fmt.Errorf("%s: not the identity of a node", path)
	}
	return i, nil
}

// create makes a new incarnation, unless Raft's files say that there was one.
func (i *identity) create(nodeID string) error {
	if _, err := os.Stat(filepath.Join(i.dir, "raft.db")); err == nil {
		return fmt.Errorf("%s has a Raft log but no %s: restore the file, or move the directory aside to join as a new incarnation", i.dir, identityFile)
	}
	return i.update(func(id *clusterpb.Identity) error {
		id.NodeId, id.Incarnation = nodeID, randomID(5)
		return nil
	})
}

// randomID returns 2n hexadecimal digits.
func randomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func (i *identity) get() *clusterpb.Identity {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.id
}

// ServerID names the node with its disk.
func (i *identity) ServerID() string {
	id := i.get()
	return id.NodeId + "/" + id.Incarnation
}

// ClusterID is "" before the node belongs to a cluster.
func (i *identity) ClusterID() string { return i.get().ClusterId }

// nodeOf returns the node id of a server id.
func nodeOf(serverID string) string {
	id, _, _ := strings.Cut(serverID, "/")
	return id
}

// update changes the identity on disk, then in memory. An error of change is
// returned as it is, with nothing changed. change must not call i.
func (i *identity) update(change func(*clusterpb.Identity) error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := proto.CloneOf(i.id)
	if err := change(next); err != nil {
		return err
	}
	body, err := protojson.MarshalOptions{Multiline: true}.Marshal(next)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := writeFile(i.dir, identityFile, append(body, '\n')); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	i.id = next
	return nil
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(dir, name string, body []byte) error {
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return store.SyncDir(dir)
}

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// EtcdOptions say how a member of an etcd cluster runs, which benchmarks are
// compared to.
type EtcdOptions struct {
	// Bin is the program etcd.
	Bin string
	ID  string
	// Dir gets the data and the log; it is made when absent.
	Dir string
	// Client and Peer are its ports.
	Client, Peer int
	// Members are "id=peer URL" of all members of a new cluster, see EtcdMember.
	Members []string
	// Under is a program with its arguments that runs etcd; nil: none.
	Under []string
}

// EtcdMember is an element of EtcdOptions.Members.
func EtcdMember(id string, peer int) string { return id + "=" + etcdURL(peer) }

func etcdURL(port int) string { return "http://" + Loopback(port) }

// StartEtcd starts a member with etcd's defaults and returns before it serves.
// It ends with Stop, or with this process.
func StartEtcd(o EtcdOptions) (*Process, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start etcd %s: %w", o.ID, err)
	}
	c := command{
		path: o.Bin, stop: "TERM", log: filepath.Join(o.Dir, "etcd.log"),
		args: []string{
			"--name", o.ID, "--data-dir", filepath.Join(o.Dir, "data"),
			"--listen-client-urls", etcdURL(o.Client), "--advertise-client-urls", etcdURL(o.Client),
			"--listen-peer-urls", etcdURL(o.Peer), "--initial-advertise-peer-urls", etcdURL(o.Peer),
			"--initial-cluster", strings.Join(o.Members, ","),
		},
	}
	process, err := startProcess(c.under(o.Under))
	if err != nil {
		return nil, fmt.Errorf("start etcd %s: %w", o.ID, err)
	}
	return process, nil
}

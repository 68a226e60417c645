package trio

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/deploy/local"
)

// etcd are clusters of etcd with its defaults.
type etcd struct{}

func (etcd) start(c *Cluster, i int, under []string) (*local.Process, error) {
	var members []string
	for i, p := range c.ports {
		members = append(members, local.EtcdMember(c.id(i), p.Raft))
	}
	return local.StartEtcd(local.EtcdOptions{
		Bin: c.o.Bin, ID: c.id(i), Dir: c.dir(i), Client: c.ports[i].HTTP, Peer: c.ports[i].Raft, Members: members, Under: under,
	})
}

func (etcd) address(c *Cluster, i int) string { return local.Loopback(c.ports[i].HTTP) }

func (e etcd) metrics(c *Cluster, i int) string { return "http://" + e.address(c, i) + "/metrics" }

func (etcd) leads() string   { return "etcd_server_is_leader" }
func (etcd) changes() string { return "etcd_server_leader_changes_seen_total" }

func (e etcd) ready(ctx context.Context, c *Cluster, i int) error {
	has, err := c.metric(ctx, i, "etcd_server_has_leader")
	if err == nil && has == 0 {
		err = fmt.Errorf("%s has no leader", c.id(i))
	}
	return err
}

func (etcd) writer(key string, addresses [Members]string) Writer {
	w := &kvWriter{key: []byte(key)}
	for i, address := range addresses {
		// The address is a literal, so there is nothing that could fail before
		// the first call.
		w.conns[i], w.err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
		if w.err != nil {
			break
		}
	}
	return w
}

// kvWriter calls etcd's KV service. Its two messages are put together here:
// etcd's client would bring another generator's messages and a logger along
// and do no less.
type kvWriter struct {
	key   []byte
	conns [Members]*grpc.ClientConn
	err   error
}

// Put sends a PutRequest: key = 1, value = 2.
func (w *kvWriter) Put(ctx context.Context, member int, value []byte) error {
	return w.call(ctx, member, "Put", putRequest(w.key, value))
}

func putRequest(key, value []byte) []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, key)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}

// Get sends a RangeRequest: key = 1, serializable = 7, which reads what the
// member has.
func (w *kvWriter) Get(ctx context.Context, member int, strong bool) error {
	return w.call(ctx, member, "Range", rangeRequest(w.key, !strong))
}

func rangeRequest(key []byte, serializable bool) []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, key)
	if serializable {
		b = protowire.AppendTag(b, 7, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	return b
}

func (w *kvWriter) call(ctx context.Context, member int, method string, request []byte) error {
	if w.err != nil {
		return w.err
	}
	var answer []byte
	return w.conns[member].Invoke(ctx, "/etcdserverpb.KV/"+method, request, &answer)
}

func (w *kvWriter) Close() {
	for _, conn := range w.conns {
		if conn != nil {
			_ = conn.Close() // nothing is under way
		}
	}
}

// raw is a codec that passes encoded messages through.
type raw struct{}

var _ encoding.CodecV2 = raw{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("encode %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("decode into %T", v)
	}
	*b = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

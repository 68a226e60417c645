package trio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestEndpointsHaveTheirSize(t *testing.T) {
	last := []byte(nil)
	for n := range 3 {
		body := Endpoints("service-00001", 512, n)
		if len(body) < 508 || len(body) > 516 || bytes.Equal(body, last) || !json.Valid(body) {
			t.Errorf("%d bytes after %q: %s", len(body), last, body)
		}
		last = body
	}
}

func TestSyncTime(t *testing.T) {
	dir := t.TempDir()
	if took, err := SyncTime(dir); err != nil || took <= 0 {
		t.Errorf("%s, %v", took, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestParseSyncs(t *testing.T) {
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.000126         126        41           fdatasync
 10.00    0.000026          26         2         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.000126         126        43         1 total
`
	file := filepath.Join(t.TempDir(), "syncs")
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := readSyncs(file); n != 43 || err != nil {
		t.Errorf("%d calls, %v", n, err)
	}
	if n, ok := parseSyncs(table[:200]); ok {
		t.Errorf("half a table has %d calls", n)
	}
}

// kv answers etcd's calls and notes them.
type kv struct{ calls []string }

func (s *kv) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	call := method
	for len(request) > 0 {
		number, typ, n := protowire.ConsumeTag(request)
		request = request[n:]
		if typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(request)
			call, request = call+fmt.Sprintf(" %d=%d", number, v), request[n:]
			continue
		}
		b, n := protowire.ConsumeBytes(request)
		call, request = call+fmt.Sprintf(" %d=%s", number, b), request[n:]
	}
	s.calls = append(s.calls, call)
	return stream.SendMsg([]byte{})
}

func TestWhatEtcdIsSent(t *testing.T) {
	s := &kv{}
	g := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(s.handle))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(ln) }()
	defer g.Stop()
	w := etcd{}.writer("k", [Members]string{ln.Addr().String()})
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for _, err := range []error{w.Put(ctx, 0, []byte("value")), w.Get(ctx, 0, true), w.Get(ctx, 0, false)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"/etcdserverpb.KV/Put 1=k 2=value", "/etcdserverpb.KV/Range 1=k", "/etcdserverpb.KV/Range 1=k 7=1"}
	if !slices.Equal(s.calls, want) {
		t.Errorf("got %q, want %q", s.calls, want)
	}
}

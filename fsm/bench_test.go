package fsm_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// large returns the state of 100 fleets with 1,000 resources each and 10,000
// connected proxies.
func large(b *testing.B) *machine {
	b.Helper()
	m := newMachine(b)
	body := string(bytes.Repeat([]byte("x"), 300))
	for f := range 100 {
		fleet := fmt.Sprintf("fleet-%d", f)
		m.ok(putFleet("default", fleet))
		var resources []*fsmpb.Resource
		for i := range 1000 {
			resources = append(resources, resource(fsm.TypeCluster, fmt.Sprintf("cluster-%d", i), body+fmt.Sprint(f, i)))
		}
		m.ok(change(fleet, resources...))
	}
	for i := range uint64(100) {
		var reports []*fsmpb.ProxyReport
		for j := range uint64(100) {
			n := 100*i + j
			reports = append(reports, connected("default", fmt.Sprintf("proxy-%d", n), n, fmt.Sprintf("fleet-%d", i)))
		}
		m.ok(report("n1", 1, i+1, reports...))
	}
	return m
}

func BenchmarkSnapshot(b *testing.B) {
	m := large(b)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := m.state.WriteSnapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	file := snapshot(b, m.state)
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			if _, err := fsm.ReadSnapshot(bytes.NewReader(file)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("restore", func(b *testing.B) {
		sum := m.take(m)
		for n := 0; b.Loop(); n++ {
			m.ok(restore(sum, fmt.Sprint("epoch-", n)))
		}
	})
}

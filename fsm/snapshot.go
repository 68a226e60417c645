package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// The bytes of a snapshot: magic, then records, each behind its length as a
// varint, the last one a footer, then a SHA-256 of all before it.
const (
	snapshotMagic  = "ecp-snapshot\n\x01\x00\x00"
	snapshotFormat = 1
)

// WriteSnapshot writes the state. Equal states give equal bytes.
func (s *State) WriteSnapshot(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 1<<16)
	if err := s.writeSnapshot(buf); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func (s *State) writeSnapshot(out io.Writer) error {
	w := &recordWriter{out: out, sum: sha256.New()}
	w.raw([]byte(snapshotMagic))
	w.put(&fsmpb.Record{Record: &fsmpb.Record_Header{Header: &fsmpb.Header{
		Format: snapshotFormat, FeatureLevel: s.level, Index: s.index, Stamp: s.stamp, Seq: s.outbox.seq,
		Identity: s.identity, Archive: s.outbox.settings, ArchivedSeq: s.outbox.archived, ReadOnly: s.readOnly,
		LevelIndex: s.levelIndex, Membership: s.membership,
	}}})
	s.writeConfiguration(w)
	for p := range s.AllProxies() {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Proxy{Proxy: p}})
	}
	for n := range values(s.nodes, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Node{Node: n}})
	}
	for r := range values(s.memory.order, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Remembered{Remembered: r}})
	}
	s.writeOutbox(w)
	w.put(&fsmpb.Record{Record: &fsmpb.Record_Footer{Footer: &fsmpb.Footer{Records: w.records}}})
	if w.err == nil {
		_, w.err = out.Write(w.sum.Sum(nil))
	}
	return w.err
}

func (s *State) writeConfiguration(w *recordWriter) {
	for t := range s.Tenants("") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Tenant{Tenant: t}})
	}
	for f := range values(s.fleets, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Fleet{Fleet: f}})
		s.writeRevisions(w, f)
	}
	for e := range values(s.endpoints, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Endpoints{Endpoints: e}})
	}
	for x := range values(s.secrets, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Secret{Secret: x}})
	}
}

// writeRevisions writes each resource once, where it first appears, and each
// revision as the numbers of what it added.
func (s *State) writeRevisions(w *recordWriter, f *fsmpb.Fleet) {
	numbers := map[*fsmpb.Resource]uint32{}
	number := func(res *fsmpb.Resource) uint32 {
		n, ok := numbers[res]
		if !ok {
			n = uint32(len(numbers))
			numbers[res] = n
			w.put(&fsmpb.Record{Record: &fsmpb.Record_Resource{Resource: res}})
		}
		return n
	}
	whole := true
	for r := range values(s.revisions, prefix(f.Tenant, f.Name), "") {
		record := &fsmpb.RevisionRecord{Revision: r.Info, Whole: whole}
		if whole {
			for _, url := range r.Types() {
				for res := range r.Resources(url) {
					record.Resources = append(record.Resources, number(res))
				}
			}
		} else {
			for _, c := range r.Info.Changed {
				if res, ok := r.Resource(c.TypeUrl, c.Name); ok {
					record.Resources = append(record.Resources, number(res))
				}
			}
		}
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Revision{Revision: record}})
		whole = false
	}
}

func (s *State) writeOutbox(w *recordWriter) {
	it := s.outbox.tenantSeqs.Root().Iterator()
	for tenant, seq, ok := it.Next(); ok; tenant, seq, ok = it.Next() {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_TenantSeq{
			TenantSeq: &fsmpb.TenantSeq{Tenant: string(tenant), Seq: seq},
		}})
	}
	for ev := range s.Events(0) {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Event{Event: ev}})
	}
	for k := range values(s.outbox.collapsed, nil, "") {
		w.put(&fsmpb.Record{Record: &fsmpb.Record_Collapsed{Collapsed: k}})
	}
}

// Hash returns the SHA-256 of the bytes that WriteSnapshot writes:
// equal on all nodes at an equal index.
func (s *State) Hash() ([sha256.Size]byte, error) {
	sum, _, err := s.Measure()
	return sum, err
}

// Measure returns the SHA-256 and the number of the bytes that WriteSnapshot
// writes.
func (s *State) Measure() (sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	n := &counter{}
	if err := s.WriteSnapshot(io.MultiWriter(h, n)); err != nil {
		return sum, 0, err
	}
	return [sha256.Size]byte(h.Sum(nil)), n.bytes, nil
}

// counter counts what is written to it.
type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

// recordWriter keeps the first error.
type recordWriter struct {
	out     io.Writer
	sum     hash.Hash
	buf     []byte
	records uint64
	err     error
}

func (w *recordWriter) put(r *fsmpb.Record) {
	if w.err != nil {
		return
	}
	w.buf = binary.AppendUvarint(w.buf[:0], uint64(proto.Size(r)))
	w.buf, w.err = proto.MarshalOptions{Deterministic: true, UseCachedSize: true}.MarshalAppend(w.buf, r)
	w.raw(w.buf)
	w.records++
}

func (w *recordWriter) raw(b []byte) {
	if w.err != nil {
		return
	}
	w.sum.Write(b)
	_, w.err = w.out.Write(b)
}

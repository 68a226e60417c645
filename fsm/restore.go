package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// maxRecordBytes bounds what one record may claim to be.
const maxRecordBytes = 1 << 28

// Errors that ReadSnapshot wraps.
var (
	ErrNotSnapshot   = errors.New("not a snapshot of the control plane")
	ErrDamaged       = errors.New("the snapshot is damaged")
	ErrNewerSnapshot = errors.New("the snapshot needs a newer binary")
)

// ReadSnapshot returns the state that WriteSnapshot wrote. It reads up to and
// including the checksum, and returns no state unless all of it holds:
// ErrNotSnapshot, ErrDamaged, ErrNewerSnapshot, or an error of r.
func ReadSnapshot(r io.Reader) (*State, error) {
	in := &recordReader{in: bufio.NewReaderSize(r, 1<<16), sum: sha256.New()}
	magic := make([]byte, len(snapshotMagic))
	if err := in.raw(magic); err != nil || string(magic) != snapshotMagic {
		return nil, fmt.Errorf("read snapshot: %w", ErrNotSnapshot)
	}
	b := newBuilder()
	for !b.done {
		record, err := in.next()
		if err == nil {
			err = b.take(record)
		}
		if err != nil {
			return nil, fmt.Errorf("read snapshot: record %d: %w", b.records, err)
		}
	}
	if err := in.verify(); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return b.finish(), nil
}

type recordReader struct {
	in  *bufio.Reader
	sum hash.Hash
}

func (r *recordReader) raw(b []byte) error {
	if _, err := io.ReadFull(r.in, b); err != nil {
		return damagedEOF(err)
	}
	r.sum.Write(b)
	return nil
}

// damagedEOF tells a file that ends early from one that cannot be read.
func damagedEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early", ErrDamaged)
	}
	return err
}

func (r *recordReader) next() (*fsmpb.Record, error) {
	size, err := binary.ReadUvarint(r.in)
	if err != nil {
		return nil, damagedEOF(err)
	}
	if size > maxRecordBytes {
		return nil, fmt.Errorf("%w: a record of %d bytes", ErrDamaged, size)
	}
	r.sum.Write(binary.AppendUvarint(nil, size))
	// Grows with what is there, not with what is claimed.
	var buf bytes.Buffer
	if _, err := io.CopyN(io.MultiWriter(&buf, r.sum), r.in, int64(size)); err != nil {
		return nil, damagedEOF(err)
	}
	record := &fsmpb.Record{}
	if err := proto.Unmarshal(buf.Bytes(), record); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return record, nil
}

func (r *recordReader) verify() error {
	want := r.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r.in, got); err != nil {
		return damagedEOF(err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	return nil
}

// builder makes a state from records.
type builder struct {
	s       *State
	records uint64
	done    bool

	tenants   *iradix.Txn[*fsmpb.Tenant]
	fleets    *iradix.Txn[*fsmpb.Fleet]
	revisions *iradix.Txn[*Revision]
	endpoints *iradix.Txn[*fsmpb.Endpoints]
	secrets   *iradix.Txn[*fsmpb.Secret]
	proxies   *iradix.Txn[*fsmpb.Proxy]

	// Of the fleet whose revisions are being read.
	fleet *fsmpb.Fleet
	pool  []*fsmpb.Resource
	last  *Revision
}

func newBuilder() *builder {
	s := blank()
	return &builder{
		s: s, tenants: s.tenants.Txn(), fleets: s.fleets.Txn(), revisions: s.revisions.Txn(),
		endpoints: s.endpoints.Txn(), secrets: s.secrets.Txn(), proxies: s.proxies.Txn(),
	}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

func (b *builder) take(record *fsmpb.Record) error {
	if header := record.GetHeader(); (header != nil) != (b.records == 0) {
		return damaged("the header is not where it belongs")
	}
	b.records++
	s := b.s
	switch r := record.Record.(type) {
	case *fsmpb.Record_Header:
		return b.header(r.Header)
	case *fsmpb.Record_Tenant:
		b.tenants.Insert(key(r.Tenant.Name), r.Tenant)
	case *fsmpb.Record_TenantSeq:
		s.outbox.tenantSeqs, _, _ = s.outbox.tenantSeqs.Insert(key(r.TenantSeq.Tenant), r.TenantSeq.Seq)
	case *fsmpb.Record_Fleet:
		b.fleets.Insert(key(r.Fleet.Tenant, r.Fleet.Name), r.Fleet)
		b.fleet, b.pool, b.last = r.Fleet, nil, nil
	case *fsmpb.Record_Resource:
		b.pool = append(b.pool, r.Resource)
	case *fsmpb.Record_Revision:
		return b.revision(r.Revision)
	case *fsmpb.Record_Endpoints:
		b.endpoints.Insert(key(r.Endpoints.Tenant, r.Endpoints.Service), r.Endpoints)
	case *fsmpb.Record_Secret:
		b.secrets.Insert(key(r.Secret.Tenant, r.Secret.Name), r.Secret)
	case *fsmpb.Record_Proxy:
		b.proxies.Insert(key(r.Proxy.Tenant, r.Proxy.Id), r.Proxy)
	case *fsmpb.Record_Node:
		s.nodes, _, _ = s.nodes.Insert(key(r.Node.Node), r.Node)
	case *fsmpb.Record_Remembered:
		s.memory.add(r.Remembered)
	case *fsmpb.Record_Event:
		s.outbox.keep(r.Event)
	case *fsmpb.Record_Collapsed:
		s.outbox.collapsed, _, _ = s.outbox.collapsed.Insert(key(r.Collapsed.TypeUrl, r.Collapsed.Name), r.Collapsed)
	case *fsmpb.Record_Footer:
		b.done = true
		if r.Footer.Records != b.records-1 {
			return damaged("%d records, not %d", b.records-1, r.Footer.Records)
		}
	default:
		return damaged("an unknown kind of record")
	}
	return nil
}

func (b *builder) header(h *fsmpb.Header) error {
	if h.Format != snapshotFormat || h.FeatureLevel > SupportedLevel {
		return fmt.Errorf("%w: format %d, feature level %d; this one supports format %d, feature level %d",
			ErrNewerSnapshot, h.Format, h.FeatureLevel, snapshotFormat, SupportedLevel)
	}
	s := b.s
	s.level, s.levelIndex, s.index, s.stamp, s.identity = h.FeatureLevel, h.LevelIndex, h.Index, h.Stamp, h.Identity
	s.outbox.seq, s.outbox.archived, s.readOnly = h.Seq, h.ArchivedSeq, h.ReadOnly
	s.membership = h.Membership
	if h.Archive != nil {
		s.outbox.settings = h.Archive
	}
	return nil
}

// revision rebuilds a revision on the one before it.
func (b *builder) revision(r *fsmpb.RevisionRecord) error {
	info := r.GetRevision()
	if b.fleet == nil || info == nil || info.Tenant != b.fleet.Tenant || info.Fleet != b.fleet.Name {
		return damaged("a revision outside of its fleet")
	}
	if r.Whole != (b.last == nil) {
		return damaged("revision %d of %q does not follow one", info.Revision, info.Fleet)
	}
	next := &revising{base: b.last, txns: map[string]*iradix.Txn[*fsmpb.Resource]{}}
	if b.last != nil {
		next.types = append(next.types, b.last.types...)
		for _, c := range info.Changed {
			if c.Op == fsmpb.Change_REMOVED {
				next.remove(c.TypeUrl, c.Name)
			}
		}
	}
	for _, n := range r.Resources {
		if int(n) >= len(b.pool) {
			return damaged("revision %d of %q needs resource %d", info.Revision, info.Fleet, n)
		}
		res := b.pool[n]
		next.txn(res.TypeUrl).Insert([]byte(res.Name), res)
	}
	b.last = &Revision{Info: info, types: next.close()}
	b.revisions.Insert(revisionKey(info.Tenant, info.Fleet, info.Revision), b.last)
	return nil
}

func (b *builder) finish() *State {
	s := b.s
	s.tenants, s.fleets, s.revisions = b.tenants.Commit(), b.fleets.Commit(), b.revisions.Commit()
	s.endpoints, s.secrets, s.proxies = b.endpoints.Commit(), b.secrets.Commit(), b.proxies.Commit()
	return s
}

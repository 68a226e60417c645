package xds

import (
	"bytes"
	"strconv"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a frame on its way to one stream. The nonce follows the shared
// bytes as a field of its own: protobuf fields may come in any order. What it
// takes to hand both to gRPC is part of it, so that it is allocated at once.
type message struct {
	frame *frame
	nonce nonce
	parts [2]mem.Buffer
	tail  [32]byte
}

// nonce tells the responses of all streams of a process apart.
type nonce struct{ stream, number uint64 }

func (n nonce) append(b []byte) []byte {
	b = strconv.AppendUint(b, n.stream, 36)
	b = append(b, '.')
	return strconv.AppendUint(b, n.number, 36)
}

// parseNonce reads what append writes; all else is the zero nonce.
func parseNonce(b []byte) nonce {
	stream, number, _ := bytes.Cut(b, []byte{'.'})
	n := nonce{parseBase36(stream), parseBase36(number)}
	if n.stream == 0 || n.number == 0 {
		return nonce{}
	}
	return n
}

// parseBase36 reads a positive number as strconv writes it; 0 for all else,
// and for what has more digits than anything will be counted to.
func parseBase36(b []byte) (n uint64) {
	if len(b) == 0 || len(b) > 12 || b[0] == '0' {
		return 0
	}
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			n = n*36 + uint64(c-'0')
		case 'a' <= c && c <= 'z':
			n = n*36 + uint64(c-'a') + 10
		default:
			return 0
		}
	}
	return n
}

// is reports whether n, unless it is zero, is o.
func (n nonce) is(o nonce) bool { return n.number != 0 && n == o }

// codec passes encoded frames through and decodes requests by hand;
// everything else is protobuf as usual.
type codec struct {
	encoding.CodecV2
}

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	var text [32]byte
	tail := protowire.AppendTag(m.tail[:0], responseNonce, protowire.BytesType)
	tail = protowire.AppendBytes(tail, m.nonce.append(text[:0]))
	m.parts = [2]mem.Buffer{m.frame.shared, mem.SliceBuffer(tail)}
	return m.parts[:], nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*measured); ok {
		data.Ref()
		m.raw = data
		return nil
	}
	in, ok := v.(*inbox)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	r := in.open()
	if in.stream == nil || data.Len() > largeRequest {
		data.Ref()
		r.raw = data // decoded when it is its turn
		return nil
	}
	r.parse(data)
	return nil
}

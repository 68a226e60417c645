package xds

import (
	"strconv"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a frame on its way to one stream. The nonce follows the shared
// bytes as a field of its own: protobuf fields may come in any order.
type message struct {
	frame *frame
	nonce nonce
}

// nonce tells the responses of all streams of a process apart.
type nonce struct{ stream, number uint64 }

func (n nonce) append(b []byte) []byte {
	b = strconv.AppendUint(b, n.stream, 36)
	b = append(b, '.')
	return strconv.AppendUint(b, n.number, 36)
}

func (n nonce) is(s []byte) bool {
	var buf [32]byte
	return n.number != 0 && string(n.append(buf[:0])) == string(s)
}

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
	tail := protowire.AppendTag(make([]byte, 0, 24), responseNonce, protowire.BytesType)
	tail = protowire.AppendBytes(tail, m.nonce.append(text[:0]))
	return mem.BufferSlice{mem.SliceBuffer(m.frame.body), mem.SliceBuffer(tail)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*request)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if data.Len() > largeRequest {
		r.forget()
		data.Ref()
		r.raw = data // decoded by receive
		return nil
	}
	r.parse(data)
	return nil
}

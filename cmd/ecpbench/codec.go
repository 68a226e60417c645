package main

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// payload is an encoded message, in parts that several messages may share.
type payload [][]byte

// unread is a message that is taken from the wire and not looked at.
type unread struct{}

// greeting is a stream's first request, of which only the fleet is looked at.
type greeting struct {
	protocol protocol
	fleet    string
}

func (g *greeting) decode(b []byte) {
	node := protowire.Number(stateNode)
	if g.protocol == delta {
		node = deltaNode
	}
	eachBytes(b, func(field protowire.Number, v []byte) {
		if field != node {
			return
		}
		eachBytes(v, func(field protowire.Number, v []byte) {
			if field == nodeCluster {
				g.fleet = string(v)
			}
		})
	})
}

// codec passes bytes through: payloads as they are, responses by the few
// fields that a proxy needs, anything unread not at all.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(payload)
	if !ok {
		return nil, fmt.Errorf("a %T is no payload", v)
	}
	parts := make(mem.BufferSlice, len(p))
	for i, part := range p {
		parts[i] = mem.SliceBuffer(part)
	}
	return parts, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *unread:
		return nil
	case *greeting:
		m.decode(data.Materialize())
		return nil
	case *response:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return m.decode(buf.ReadOnlyData())
	default:
		return fmt.Errorf("a %T is nothing to read into", v)
	}
}

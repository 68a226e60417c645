package xds

import (
	"errors"
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// request is a DiscoveryRequest or a DeltaDiscoveryRequest as it came off the
// wire. It is decoded by hand: an ACK, by far the most frequent message, then
// costs little more than its bytes.
type request struct {
	delta bool // which of the two messages it is; set before decoding
	limit int  // names that it may hold; 0 means any number
	// kinds are the types whose URLs need not be copied; nil for none.
	kinds *kinds
	seed  maphash.Seed // of sums

	node    []byte // encoded envoy.config.core.v3.Node, nil when absent
	typeURL string
	nonce   []byte

	version []byte   // state of the world
	names   nameList // state of the world

	subscribe   []string // delta
	unsubscribe []string // delta
	initial     []named  // delta: initial_resource_versions

	rejected   bool // error_detail is there
	rejectCode int32
	rejectText string

	// tooMany tells that there were more names than limit; those beyond it
	// are dropped.
	tooMany bool

	// raw is a large request that is not decoded yet; share, when it is, what
	// it has of the budget; err why it cannot be.
	raw   mem.BufferSlice
	share int64
	err   error
}

// named is a name with a version.
type named struct{ name, version string }

// nameList are the names of a request in the state of the world, which every
// ACK repeats. They stay encoded until somebody wants them; most often the
// sum tells that they are those of the request before.
type nameList struct {
	message []byte     // what they are part of
	held    mem.Buffer // keeps message; nil when it need not be kept
	count   int
	sum     uint64
}

// add notes the encoded name that comes next. The seed makes sums that nobody
// can aim at.
func (l *nameList) add(seed maphash.Seed, v []byte) {
	l.count++
	l.sum = (l.sum ^ maphash.Bytes(seed, v)) * 0x9e3779b97f4a7c15
}

// are reports whether the names are those that another request had, in the
// same order.
func (l *nameList) are(count int, sum uint64) bool { return l.count == count && l.sum == sum }

// decode returns the names.
func (l *nameList) decode() ([]string, error) {
	if l.count == 0 {
		return nil, nil
	}
	names := make([]string, 0, l.count)
	add := func(v []byte) error {
		if !utf8.Valid(v) {
			return errBadText
		}
		names = append(names, string(v))
		return nil
	}
	err := eachField(l.message, func(num protowire.Number, v []byte) error {
		switch num {
		case stateNames:
			return add(v)
		case stateLocators:
			return eachLocated(v, add)
		}
		return nil
	})
	return names, err
}

// newRequest returns what the requests of one stream are decoded into.
func (s *Server) newRequest(p protocol) *request {
	return &request{delta: p == delta, limit: s.config.MaxNames, kinds: s.kinds, seed: s.seed}
}

var errBadText = errors.New("a string is not valid UTF-8")

// Field numbers of the two messages.
const (
	stateVersion, stateNode, stateNames, stateType, stateNonce, stateError, stateLocators = 1, 2, 3, 4, 5, 6, 7

	deltaNode, deltaType, deltaSubscribe, deltaUnsubscribe, deltaInitial, deltaNonce, deltaError = 1, 2, 3, 4, 5, 6, 7
	deltaSubscribeLocators, deltaUnsubscribeLocators                                             = 8, 9
)

// parse decodes a message as gRPC received it. What is wrong with it is left
// in err, for gRPC would call it an error of the server.
func (r *request) parse(data mem.BufferSlice) {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	err := r.decode(buf.ReadOnlyData())
	if r.names.held = buf; err != nil || r.names.count == 0 {
		r.release()
	}
	if err != nil {
		r.err = status.Errorf(codes.InvalidArgument, "the request cannot be decoded: %v", err)
	}
}

// forget leaves what requests of the stream have in common, and buffers that
// are small.
func (r *request) forget() {
	r.release()
	*r = request{delta: r.delta, limit: r.limit, kinds: r.kinds, seed: r.seed, nonce: small(r.nonce), version: small(r.version)}
}

// small returns a buffer for the next version or nonce, if it is one of ours.
func small(b []byte) []byte {
	if cap(b) > 64 {
		return nil
	}
	return b[:0]
}

// decode fills r from the bytes of its message. It keeps none of them but in
// names.
func (r *request) decode(b []byte) error {
	r.forget()
	r.names.message = b
	field := r.stateField
	if r.delta {
		field = r.deltaField
	}
	return eachField(b, field)
}

// eachField calls f with every length-delimited field and skips all others.
func eachField(b []byte, f func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (r *request) stateField(num protowire.Number, v []byte) error {
	switch num {
	case stateVersion:
		return textBytes(&r.version, v)
	case stateNode:
		r.node = append(r.node, v...)
	case stateNames, stateLocators:
		r.names.add(r.seed, v)
		r.tooMany = r.limit > 0 && r.names.count > r.limit
	case stateType:
		return r.takeType(v)
	case stateNonce:
		return textBytes(&r.nonce, v)
	case stateError:
		return r.reject(v)
	}
	return nil
}

func (r *request) deltaField(num protowire.Number, v []byte) error {
	switch num {
	case deltaNode:
		r.node = append(r.node, v...)
	case deltaType:
		return r.takeType(v)
	case deltaSubscribe:
		return r.name(&r.subscribe, v)
	case deltaUnsubscribe:
		return r.name(&r.unsubscribe, v)
	case deltaInitial:
		return r.initialVersion(v)
	case deltaNonce:
		return textBytes(&r.nonce, v)
	case deltaError:
		return r.reject(v)
	case deltaSubscribeLocators:
		return r.locator(&r.subscribe, v)
	case deltaUnsubscribeLocators:
		return r.locator(&r.unsubscribe, v)
	}
	return nil
}

func text(to *string, v []byte) error {
	if !utf8.Valid(v) {
		return errBadText
	}
	*to = string(v)
	return nil
}

// textBytes is text for what is only compared: it makes use of the bytes that
// are there.
func textBytes(to *[]byte, v []byte) error {
	if !utf8.Valid(v) {
		return errBadText
	}
	*to = append((*to)[:0], v...)
	return nil
}

func (r *request) takeType(v []byte) error {
	if r.kinds != nil {
		if k, ok := r.kinds.known[string(v)]; ok {
			r.typeURL = k.url
			return nil
		}
	}
	return text(&r.typeURL, v)
}

// release gives back what the names are part of; it is called when they are
// no longer needed, so that a stream that waits holds no request.
func (r *request) release() {
	if r.names.held != nil {
		r.names.held.Free()
	}
	r.names = nameList{}
}

func (r *request) name(to *[]string, v []byte) error {
	if r.limit > 0 && len(*to) >= r.limit {
		r.tooMany = true
		return nil
	}
	var s string
	if err := text(&s, v); err != nil {
		return err
	}
	*to = append(*to, s)
	return nil
}

func (r *request) locator(to *[]string, v []byte) error {
	return eachLocated(v, func(name []byte) error { return r.name(to, name) })
}

// eachLocated calls f with the name of a ResourceLocator; its parameters
// select among variants, which are not served.
func eachLocated(v []byte, f func(name []byte) error) error {
	return eachField(v, func(num protowire.Number, v []byte) error {
		if num != 1 {
			return nil
		}
		return f(v)
	})
}

func (r *request) initialVersion(v []byte) error {
	if r.limit > 0 && len(r.initial) >= r.limit {
		r.tooMany = true
		return nil
	}
	var n named
	err := eachField(v, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			return text(&n.name, v)
		case 2:
			return text(&n.version, v)
		}
		return nil
	})
	r.initial = append(r.initial, n)
	return err
}

// maxRejectText bounds what is kept of a NACK's text: it becomes part of the
// replicated state.
const maxRejectText = 16 << 10

// reject takes a google.rpc.Status. Bad UTF-8 in a proxy's complaint is no
// reason to lose it.
func (r *request) reject(v []byte) error {
	r.rejected = true
	for b := v; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.VarintType:
			code, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			r.rejectCode = int32(code)
		case num == 2 && typ == protowire.BytesType:
			t, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			r.rejectText = strings.ToValidUTF8(string(t[:min(len(t), maxRejectText)]), "\uFFFD")
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

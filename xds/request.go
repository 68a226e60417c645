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
	// types are those that the stream asked for before, subs all subscriptions
	// that there are; set before decoding. What is known is not made again.
	types []*subscribed
	subs  *subscriptions
	seed  maphash.Seed // of hashes that nobody can aim at

	node    []byte // encoded envoy.config.core.v3.Node, nil when absent
	typeURL string
	nonce   nonce // zero when it is none of this server's

	version string   // state of the world, of the first request of a type
	names   []string // state of the world, unless repeats is set
	// list is the hash of the encoded names. repeats: it is that of the type's
	// last request, whose names these are.
	list    uint64
	repeats bool
	// sub is what the names ask for, instead of them; to be released.
	sub *subscription

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
	defer buf.Free()
	if err := r.decode(buf.ReadOnlyData()); err != nil {
		r.err = status.Errorf(codes.InvalidArgument, "the request cannot be decoded: %v", err)
	}
}

// decode fills r, which is empty but for what is set before, from the bytes of
// its message. It keeps none of them.
func (r *request) decode(b []byte) error {
	var version []byte
	field := r.deltaField
	if !r.delta {
		field = func(num protowire.Number, v []byte) error {
			if num == stateVersion {
				version = v
				return nil
			}
			return r.stateField(num, v)
		}
	}
	before, list, after := cutList(b)
	if err := eachField(before, field); err != nil {
		return err
	}
	if err := eachField(after, field); err != nil {
		return err
	}
	t := typed(r.types, r.typeURL)
	if t == nil {
		if err := text(&r.version, version); err != nil {
			return err
		}
	} else if !utf8.Valid(version) {
		return errBadText
	}
	return r.takeList(list, t)
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
	case stateNode:
		r.node = append(r.node, v...)
	case stateNames:
		return r.name(&r.names, v)
	case stateType:
		return r.setType(v)
	case stateNonce:
		return r.setNonce(v)
	case stateError:
		return r.reject(v)
	case stateLocators:
		return r.locator(&r.names, v)
	}
	return nil
}

func (r *request) deltaField(num protowire.Number, v []byte) error {
	switch num {
	case deltaNode:
		r.node = append(r.node, v...)
	case deltaType:
		return r.setType(v)
	case deltaSubscribe:
		return r.name(&r.subscribe, v)
	case deltaUnsubscribe:
		return r.name(&r.unsubscribe, v)
	case deltaInitial:
		return r.initialVersion(v)
	case deltaNonce:
		return r.setNonce(v)
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

func (r *request) setType(v []byte) error {
	for _, t := range r.types {
		if t.kind.url == string(v) {
			r.typeURL = t.kind.url
			return nil
		}
	}
	return text(&r.typeURL, v)
}

func (r *request) setNonce(v []byte) error {
	r.nonce = parseNonce(v)
	if !utf8.Valid(v) {
		return errBadText
	}
	return nil
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

// locator takes the name of a ResourceLocator; its parameters select among
// variants, which are not served.
func (r *request) locator(to *[]string, v []byte) error {
	return eachField(v, func(num protowire.Number, v []byte) error {
		if num != 1 {
			return nil
		}
		return r.name(to, v)
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

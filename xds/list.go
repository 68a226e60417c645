package xds

import (
	"hash/maphash"

	"google.golang.org/protobuf/encoding/protowire"
)

// A request's list of names is looked at as a whole before anything is made of
// the names: in the state of the world every ACK tells them again, and many
// proxies tell the same ones.

// listTag begins each name, in the requests of both protocols.
const listTag = stateNames<<3 | byte(protowire.BytesType)

// cutList splits an encoded request around its first run of names. A mistake
// in the encoding is left to who decodes the parts.
func cutList(b []byte) (before, list, after []byte) {
	start := 0
	for start < len(b) && b[start] != listTag {
		_, _, n := protowire.ConsumeField(b[start:])
		if n < 0 {
			return b, nil, nil
		}
		start += n
	}
	end := start
	for end+1 < len(b) && b[end] == listTag {
		if size := int(b[end+1]); size < 0x80 && end+2+size <= len(b) { // most names are short
			end += 2 + size
			continue
		}
		_, n := protowire.ConsumeBytes(b[end+1:])
		if n < 0 {
			break
		}
		end += 1 + n
	}
	return b[:start], b[start:end], b[end:]
}

// takeList takes the list that was cut out of a request, after its other
// fields. t is what is known of the type, nil for its first request.
func (r *request) takeList(list []byte, t *subscribed) error {
	names, field := &r.names, r.stateField
	if r.delta {
		names, field = &r.subscribe, r.deltaField
	}
	// Only a list that is all names of the subscription stands for it.
	if len(*names) > 0 || r.delta && t != nil {
		return eachField(list, field)
	}
	r.list = maphash.Bytes(r.seed, list)
	if r.repeats = t != nil && t.list == r.list; r.repeats {
		return nil
	}
	if len(list) == 0 || r.subs == nil {
		return eachField(list, field)
	}
	if r.sub = r.subs.listed(r.list, list); r.sub != nil {
		return nil
	}
	if err := eachField(list, field); err != nil || r.tooMany {
		return err
	}
	set, star := splitStar(*names)
	r.sub, *names = r.subs.intern(star, set), nil
	r.subs.learn(r.sub, r.list, list)
	return nil
}

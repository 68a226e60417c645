package main

import "google.golang.org/protobuf/encoding/protowire"

// had is how a proxy that comes back tells what it has of a type, by the
// response that brought it.
func (p protocol) had(r *response) []byte {
	if p == stateOfTheWorld {
		return appendString(nil, stateVersion, r.version)
	}
	var b []byte
	eachBytes(r.kept, func(field protowire.Number, resource []byte) {
		if field != responseResources {
			return
		}
		var name, version []byte
		eachBytes(resource, func(field protowire.Number, v []byte) {
			switch field {
			case resourceName:
				name = v
			case resourceVersion:
				version = v
			}
		})
		b = appendString(b, deltaInitial, appendString(appendString(nil, entryKey, name), entryValue, version))
	})
	return b
}

// eachBytes calls f with the length-delimited fields of a message, as far as it
// is one.
func eachBytes(b []byte, f func(protowire.Number, []byte)) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(field, kind, b[n:])
		if size < 0 {
			return
		}
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[n:])
			f(field, v)
		}
		b = b[n+size:]
	}
}

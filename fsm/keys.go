package fsm

import (
	"bytes"
	"encoding/binary"
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Keys join their parts by NUL, which no name may hold, so that the rows of
// one owner lie together and in the order of their names.

func key(parts ...string) []byte {
	n := len(parts)
	for _, p := range parts {
		n += len(p)
	}
	k := make([]byte, 0, n)
	for i, p := range parts {
		if i > 0 {
			k = append(k, 0)
		}
		k = append(k, p...)
	}
	return k
}

// prefix returns what the keys of all rows below an owner begin with.
func prefix(parts ...string) []byte { return append(key(parts...), 0) }

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func revisionKey(tenant, fleet string, n uint64) []byte {
	return binary.BigEndian.AppendUint64(prefix(tenant, fleet), n)
}

// values yields the rows below a prefix whose key's rest lies strictly after
// the given one, in order.
func values[T any](tree *iradix.Tree[T], under []byte, after string) iter.Seq[T] {
	return func(yield func(T) bool) {
		if tree == nil {
			return
		}
		it := tree.Root().Iterator()
		if after == "" {
			it.SeekPrefix(under)
		} else {
			// The smallest key above: the same followed by a zero byte.
			it.SeekLowerBound(append(append(bytes.Clone(under), after...), 0))
		}
		for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
			if !bytes.HasPrefix(k, under) || !yield(v) {
				return
			}
		}
	}
}

// first returns the row with the smallest key below a prefix.
func first[T any](tree *iradix.Tree[T], under []byte) (T, bool) {
	for v := range values(tree, under, "") {
		return v, true
	}
	var zero T
	return zero, false
}

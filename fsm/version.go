package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
)

// hashBytes is the length of a content hash.
const hashBytes = 16

// ResourceHash returns the content hash of a resource: 16 bytes of SHA-256
// over its body, aliases and TTL in milliseconds.
func ResourceHash(body []byte, aliases []string, ttlMs int64) []byte {
	h := sha256.New()
	var n [8]byte
	frame := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	frame(body)
	for _, a := range aliases {
		frame([]byte(a))
	}
	binary.BigEndian.PutUint64(n[:], uint64(ttlMs))
	h.Write(n[:])
	return h.Sum(nil)[:hashBytes]
}

// Version returns the version of content that the entry at a log index
// stored: "<index>-<16 hex digits of its hash>".
func Version(index uint64, hash []byte) string {
	if len(hash) > 8 {
		hash = hash[:8]
	}
	return strconv.FormatUint(index, 10) + "-" + hex.EncodeToString(hash)
}

// VersionHash returns the part of a version that decides whether content is
// equal; the index before it only orders.
func VersionHash(version string) string {
	if _, hash, ok := strings.Cut(version, "-"); ok {
		return hash
	}
	return version
}

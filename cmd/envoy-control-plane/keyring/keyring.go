package keyring

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

// digestBytes is the length of a Digest, that of all content hashes.
const digestBytes = 16

// Ring holds the keys of a node: the first one seals, all open.
type Ring struct {
	keys []key
}

type key struct {
	id     string
	aead   cipher.AEAD
	digest []byte // derived, for Digest
}

// Errors that Open wraps.
var (
	ErrUnknownKey = errors.New("the key is not in the ring")
	ErrDamaged    = errors.New("the secret was not sealed with this key for this name, or is damaged")
)

// Parse reads keys, 32 bytes in base64 a line. Empty lines and those that begin
// with # do not count. The error names every line that is wrong.
func Parse(text []byte) (*Ring, error) {
	r := &Ring{}
	var wrong []error
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := parseKey(line)
		if err == nil && r.find(k.id) != nil {
			err = errors.New("the key is there twice")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		r.keys = append(r.keys, *k)
	}
	if err := lines.Err(); err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) == 0 && len(r.keys) == 0 {
		wrong = append(wrong, fmt.Errorf("there is no key; one is %d random bytes in base64", KeyBytes))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return r, nil
}

func parseKey(line []byte) (*key, error) {
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(secret, line)
	if err != nil {
		return nil, errors.New("not base64") // the error itself would repeat a part of the line
	}
	if n != KeyBytes {
		return nil, fmt.Errorf("%d bytes, not %d", n, KeyBytes)
	}
	return newKey(secret[:n])
}

// newKey derives what is used from a key: nothing of it is used for two ends.
func newKey(secret []byte) (*key, error) {
	derive := func(end string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "envoy-control-plane secrets v1: "+end, n)
	}
	sealing, err1 := derive("seal", KeyBytes)
	digest, err2 := derive("digest", sha256.Size)
	id, err3 := derive("id", 4)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("derive: %w", err)
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return &key{id: hex.EncodeToString(id), aead: aead, digest: digest}, nil
}

func (r *Ring) find(id string) *key {
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return nil
	}
	return &r.keys[i]
}

// Seal encrypts a tenant's secret with the first key, whose id it returns. What
// was sealed for one tenant and name opens for no other.
func (r *Ring) Seal(tenant, name string, plain []byte) (sealed []byte, keyID string) {
	k := &r.keys[0]
	//nolint:gosec // the AEAD makes a nonce itself
	return k.aead.Seal(nil, nil, plain, bound(tenant, name)), k.id
}

// Open decrypts what Seal returned: ErrUnknownKey, ErrDamaged.
func (r *Ring) Open(tenant, name, keyID string, sealed []byte) ([]byte, error) {
	k := r.find(keyID)
	if k == nil {
		return nil, fmt.Errorf("key %s: %w", keyID, ErrUnknownKey)
	}
	plain, err := k.aead.Open(nil, nil, sealed, bound(tenant, name))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Digest returns 16 bytes that tell content apart under the first key, and tell
// nothing to whom that is unknown: a plain hash would let a weak password be
// guessed from the log.
func (r *Ring) Digest(parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, r.keys[0].digest)
	for _, p := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		mac.Write(p)
	}
	return mac.Sum(nil)[:digestBytes]
}

// bound is the associated data of a secret. Lengths keep ("a", "bc") and
// ("ab", "c") apart.
func bound(tenant, name string) []byte {
	b := []byte("secret v1")
	for _, part := range []string{tenant, name} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/cmd/envoy-control-plane/keyring"
)

// line is a key whose bytes are all the same.
func line(b byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, keyring.KeyBytes))
}

func parse(t *testing.T, lines ...string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Parse([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealAndOpen(t *testing.T) {
	r := parse(t, "# today's", line(1), "", " "+line(2)+"\r")
	sealed, id := r.Seal("acme", "tls", []byte("material"))
	if bytes.Contains(sealed, []byte("material")) {
		t.Fatal("it is there to be read")
	}
	plain, err := r.Open("acme", "tls", id, sealed)
	if err != nil || string(plain) != "material" {
		t.Fatalf("opened %q, %v", plain, err)
	}
	again, _ := r.Seal("acme", "tls", []byte("material"))
	if bytes.Equal(again, sealed) {
		t.Fatal("a nonce was used twice")
	}
	for _, elsewhere := range [][2]string{{"acme", "tlt"}, {"acmet", "ls"}, {"other", "tls"}} {
		if _, err := r.Open(elsewhere[0], elsewhere[1], id, sealed); !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("opens for %v: %v", elsewhere, err)
		}
	}
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		if _, err := r.Open("acme", "tls", id, broken); !errors.Is(err, keyring.ErrDamaged) {
			t.Fatalf("opens with byte %d changed: %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := r.Open("acme", "tls", id, sealed[:n]); !errors.Is(err, keyring.ErrDamaged) {
			t.Fatalf("opens cut to %d bytes: %v", n, err)
		}
	}
}

func TestRotation(t *testing.T) {
	old := parse(t, line(1))
	sealed, id := old.Seal("t", "n", []byte("x"))
	both := parse(t, line(2), line(1))
	if plain, err := both.Open("t", "n", id, sealed); err != nil || string(plain) != "x" {
		t.Fatalf("%q, %v", plain, err)
	}
	moved, newID := both.Seal("t", "n", []byte("x"))
	if newID == id {
		t.Fatal("the first key does not seal")
	}
	if _, err := old.Open("t", "n", newID, moved); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Fatalf("opened without its key: %v", err)
	}
}

func TestDigest(t *testing.T) {
	one, other := parse(t, line(1)), parse(t, line(2), line(1))
	d := one.Digest([]byte("a"), []byte("bc"))
	if !bytes.Equal(d, one.Digest([]byte("a"), []byte("bc"))) {
		t.Error("not the same twice")
	}
	if bytes.Equal(d, one.Digest([]byte("ab"), []byte("c"))) || bytes.Equal(d, other.Digest([]byte("a"), []byte("bc"))) {
		t.Error("the same for other content or another key")
	}
}

func TestParseNamesEveryMistake(t *testing.T) {
	_, err := keyring.Parse([]byte(line(1) + "\nnot base64!\nAAAA\n" + line(1)))
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"line 2: not base64", "line 3: 3 bytes", "line 4: the key is there twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %q", want, err)
		}
	}
	if _, err := keyring.Parse([]byte("# nothing\n")); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("an empty ring: %v", err)
	}
}

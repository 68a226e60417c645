package xds

import (
	"fmt"
	"hash/maphash"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/fsm"
)

// A list of names that is told again is known by its bytes; any other is
// read, in whatever pieces it comes.
func TestListsAreReadOnce(t *testing.T) {
	known := &subscribed{kind: &kind{url: fsm.TypeEndpoints}}
	seed := maphash.MakeSeed()
	read := func(b []byte) (repeats bool, names string) {
		t.Helper()
		r := &request{seed: seed, types: []*subscribed{known}}
		check(t, r.decode(b))
		known.list = r.list
		return r.repeats, fmt.Sprint(r.names)
	}
	list := func(names ...string) []byte {
		return marshal(t, &discoveryv3.DiscoveryRequest{
			TypeUrl: fsm.TypeEndpoints, VersionInfo: "v", ResponseNonce: "1.1", ResourceNames: names,
		})
	}
	name := func(n string) []byte {
		return protowire.AppendString([]byte{listTag}, n)
	}
	located := marshal(t, &discoveryv3.DiscoveryRequest{
		TypeUrl: fsm.TypeEndpoints, ResourceLocators: []*discoveryv3.ResourceLocator{{Name: "c"}},
	})
	for i, step := range []struct {
		request []byte
		repeats bool
		names   string
	}{
		{list("a", "b"), false, "[a b]"},
		{list("a", "b"), true, "[]"},
		{list("a", "c"), false, "[a c]"},
		{append(list("a"), name("c")...), false, "[c a]"}, // in two pieces
		{append(list("a"), name("c")...), false, "[c a]"},
		{list("a"), false, "[a]"},
		{list(), false, "[]"},
		{list(), true, "[]"},
		{append(name("a"), located...), false, "[c a]"},
		{append(name("a"), located...), false, "[c a]"},
	} {
		if repeats, names := read(step.request); repeats != step.repeats || names != step.names {
			t.Errorf("request %d: repeats %v, names %s; want %v, %s", i, repeats, names, step.repeats, step.names)
		}
	}
	for _, bad := range [][]byte{{listTag, 1, 0xff}, {listTag, 9, 'a'}} {
		if err := (&request{seed: seed}).decode(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}

func TestNonces(t *testing.T) {
	for _, n := range []nonce{{1, 1}, {35, 36}, {1 << 62, 1 << 62}} {
		if got := parseNonce(n.append(nil)); got != n || !got.is(n) {
			t.Errorf("%v is read as %v", n, got)
		}
	}
	for _, text := range []string{"", ".", "1", "1.", ".1", "01.1", "1.01", "1.A", "+1.1", "1.1.1", "0.1", "1.0", "1_0.1", "z.zzzzzzzzzzzzzz", "-1.1"} {
		if n := parseNonce([]byte(text)); n.number != 0 {
			t.Errorf("%q is read as %v", text, n)
		}
	}
	if (nonce{}).is(nonce{}) {
		t.Error("no nonce is a nonce")
	}
}

// Streams that ask by the same list share a subscription without reading it,
// and the last one takes it along.
func TestListsAreShared(t *testing.T) {
	subs, seed := newSubscriptions(), maphash.MakeSeed()
	list := marshal(t, &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: fsm.TypeEndpoints, ResourceNamesSubscribe: []string{"b", "a", "*"},
	})
	var held []*subscription
	for i := range 3 {
		r := &request{delta: true, subs: subs, seed: seed}
		check(t, r.decode(list))
		if r.sub == nil || !r.sub.equal(true, []string{"a", "b"}) {
			t.Fatalf("request %d asks for %+v", i, r.sub)
		}
		if len(held) > 0 && r.sub != held[0] {
			t.Errorf("request %d has a subscription of its own", i)
		}
		if learnt := len(subs.byList) == 1; learnt != (i > 0) {
			t.Errorf("after request %d the list is learnt: %v", i, learnt)
		}
		held = append(held, r.sub)
	}
	if s := subs.listed(held[0].listHash, []byte("another list of that hash")); s != nil {
		t.Errorf("found by its hash alone: %+v", s)
	}
	r := &request{delta: true, subs: subs, limit: 2, seed: seed}
	check(t, r.decode(marshal(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"c", "d", "e"}})))
	if !r.tooMany || r.sub != nil {
		t.Errorf("a list over the limit: %+v", r)
	}
	for _, s := range held {
		subs.release(s)
	}
	if subs.len()+len(subs.byList) != 0 {
		t.Error("something is left")
	}
}

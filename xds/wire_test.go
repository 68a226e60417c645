package xds

import (
	"bytes"
	"hash/maphash"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/org/envoy-control-plane/fsm"
)

func sampleContent(t *testing.T) *content {
	a, b := itemOf(cluster(t, "a", 1)), itemOf(cluster(t, "b", 2))
	a.version, b.version = "1-aaaaaaaaaaaaaaaa", "2-bbbbbbbbbbbbbbbb"
	b.aliases = []string{"bee", "bea"}
	return newContent(&kind{url: fsm.TypeCluster, full: true}, []*item{a, {name: "aa", state: absent}, b}, true)
}

func marshalled(t *testing.T, m *message) []byte {
	t.Helper()
	s, err := newCodec().Marshal(m)
	check(t, err)
	return s.Materialize()
}

// Frames are what protobuf would have made of the same response.
func TestFramesAreTheirMessages(t *testing.T) {
	c := sampleContent(t)
	e := &encoder{identifier: "node-1", metrics: newMetrics(nil)}

	state := &discoveryv3.DiscoveryResponse{}
	check(t, proto.Unmarshal(marshalled(t, &message{frame: e.frame(c, frameKey{protocol: stateOfTheWorld}), nonce: nonce{35, 36}}), state))
	if state.Nonce != "z.10" || state.VersionInfo != c.digest() || state.TypeUrl != fsm.TypeCluster || state.ControlPlane.GetIdentifier() != "node-1" {
		t.Fatalf("response %v", state)
	}
	if len(state.Resources) != 2 || !proto.Equal(state.Resources[1], &anypb.Any{TypeUrl: fsm.TypeCluster, Value: c.items[2].body}) {
		t.Fatalf("resources %v", state.Resources)
	}

	f := e.frame(c, frameKey{protocol: delta})
	got := &discoveryv3.DeltaDiscoveryResponse{}
	check(t, proto.Unmarshal(marshalled(t, &message{frame: f, nonce: nonce{1, 2}}), got))
	want := &discoveryv3.Resource{
		Name: "b", Version: "2-bbbbbbbbbbbbbbbb", Aliases: []string{"bee", "bea"},
		Resource: &anypb.Any{TypeUrl: fsm.TypeCluster, Value: c.items[2].body},
	}
	if got.Nonce != "1.2" || got.TypeUrl != fsm.TypeCluster || got.ControlPlane.GetIdentifier() != "node-1" ||
		len(got.Resources) != 2 || !proto.Equal(got.Resources[1], want) || !slices.Equal(got.RemovedResources, []string{"aa"}) {
		t.Fatalf("response %v", got)
	}
	if &f.body[0] != &e.frame(c, frameKey{protocol: delta}).body[0] {
		t.Fatal("encoded twice")
	}
}

func TestDigestTellsContentsApart(t *testing.T) {
	k := &kind{url: fsm.TypeCluster}
	of := func(items ...*item) string { return newContent(k, items, true).digest() }
	a1, a2 := &item{name: "a", hash: 1}, &item{name: "a", hash: 2}
	seen := map[string]int{}
	for i, d := range []string{
		of(), of(a1), of(a2), of(a1, &item{name: "b", hash: 1}), of(&item{name: "b", hash: 1}),
		of(&item{name: "a", state: absent}), of(&item{name: "a", hash: 1, state: doubtful}),
	} {
		if j, ok := seen[d]; ok {
			t.Errorf("contents %d and %d have one digest", i, j)
		}
		seen[d] = i
	}
	if of(a1) != of(&item{name: "a", hash: 1, version: "9-x"}) {
		t.Error("the digest depends on more than names and hashes")
	}
}

func TestVersionHash(t *testing.T) {
	if versionHash("7-00000000000000ff") != 255 || versionHash("9-00000000000000ff") != 255 {
		t.Error("the index counts")
	}
	if versionHash("v1") == versionHash("v2") || versionHash("7-00000000000000ff") == versionHash("00000000000000ff0") {
		t.Error("foreign versions are equal")
	}
}

// requests are seeds of the fuzz targets and cases of the decoder's test.
func requests(t testing.TB) (state []*discoveryv3.DiscoveryRequest, delta []*discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	bad := &statuspb.Status{Code: 3, Message: "bad", Details: []*anypb.Any{{TypeUrl: "x", Value: []byte("y")}}}
	n := node("p", "web", "t")
	state = []*discoveryv3.DiscoveryRequest{
		{},
		{Node: n, TypeUrl: fsm.TypeCluster},
		{TypeUrl: fsm.TypeEndpoints, ResourceNames: []string{"b", "a", "b", ""}, VersionInfo: "v", ResponseNonce: "1.1"},
		{TypeUrl: fsm.TypeListener, ErrorDetail: bad, ResponseNonce: "1.2"},
		{TypeUrl: fsm.TypeRoute, ResourceLocators: []*discoveryv3.ResourceLocator{{Name: "r", DynamicParameters: map[string]string{"a": "b"}}}},
		{TypeUrl: fsm.TypeCluster, ResourceNames: []string{"*", "a"}},
	}
	delta = []*discoveryv3.DeltaDiscoveryRequest{
		{},
		{Node: n, TypeUrl: fsm.TypeCluster, InitialResourceVersions: map[string]string{"a": "1-00000000000000ff"}},
		{TypeUrl: fsm.TypeEndpoints, ResourceNamesSubscribe: []string{"b", "a"}, ResourceNamesUnsubscribe: []string{"a", "*"}},
		{TypeUrl: fsm.TypeEndpoints, ErrorDetail: bad, ResponseNonce: "1.1"},
		{TypeUrl: fsm.TypeRoute, ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "r"}}, ResourceLocatorsUnsubscribe: []*discoveryv3.ResourceLocator{{Name: "s"}}},
	}
	return state, delta
}

func TestRequestsDecodeAsProtobufDoes(t *testing.T) {
	state, changes := requests(t)
	for _, m := range state {
		compareState(t, marshal(t, m))
	}
	for _, m := range changes {
		compareDelta(t, marshal(t, m))
	}
}

// compareState decodes both ways; whatever protobuf takes, the hand-written
// decoder takes alike.
func compareState(t *testing.T, b []byte) {
	m, r := &discoveryv3.DiscoveryRequest{}, &request{seed: maphash.MakeSeed()}
	if proto.Unmarshal(b, m) != nil {
		_ = r.decode(b) // must not panic
		return
	}
	if err := r.decode(b); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	names := slices.Clone(m.ResourceNames)
	for _, l := range m.ResourceLocators {
		names = append(names, l.Name)
	}
	compareCommon(t, r, m.TypeUrl, m.ResponseNonce, m.ErrorDetail)
	if r.version != m.VersionInfo || !sameSet(r.names, names) {
		t.Fatalf("%v decoded to %+v", m, r)
	}
}

func compareDelta(t *testing.T, b []byte) {
	m, r := &discoveryv3.DeltaDiscoveryRequest{}, &request{delta: true, seed: maphash.MakeSeed()}
	if proto.Unmarshal(b, m) != nil {
		_ = r.decode(b)
		return
	}
	if err := r.decode(b); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	plus, minus := slices.Clone(m.ResourceNamesSubscribe), slices.Clone(m.ResourceNamesUnsubscribe)
	for _, l := range m.ResourceLocatorsSubscribe {
		plus = append(plus, l.Name)
	}
	for _, l := range m.ResourceLocatorsUnsubscribe {
		minus = append(minus, l.Name)
	}
	compareCommon(t, r, m.TypeUrl, m.ResponseNonce, m.ErrorDetail)
	have := map[string]string{}
	for _, n := range r.initial {
		have[n.name] = n.version
	}
	if !sameSet(r.subscribe, plus) || !sameSet(r.unsubscribe, minus) || len(have) != len(m.InitialResourceVersions) {
		t.Fatalf("%v decoded to %+v", m, r)
	}
	for name, version := range m.InitialResourceVersions {
		if have[name] != version {
			t.Fatalf("%v decoded to %+v", m, r)
		}
	}
}

func compareCommon(t *testing.T, r *request, url, nonce string, detail *statuspb.Status) {
	if r.typeURL != url || r.nonce != parseNonce([]byte(nonce)) || r.rejected != (detail != nil) || r.rejectCode != detail.GetCode() ||
		r.rejectText != detail.GetMessage()[:min(len(detail.GetMessage()), maxRejectText)] {
		t.Fatalf("decoded to %+v, want type %q nonce %q detail %v", r, url, nonce, detail)
	}
}

// sameSet ignores a locator without a name, which protobuf gives as "".
func sameSet(a, b []string) bool {
	drop := func(s []string) []string {
		s = slices.DeleteFunc(slices.Clone(s), func(n string) bool { return n == "" })
		slices.Sort(s)
		return s
	}
	return slices.Equal(drop(a), drop(b))
}

func TestRequestLimitsAndBadText(t *testing.T) {
	b := marshal(t, &discoveryv3.DiscoveryRequest{ResourceNames: []string{"a", "b", "c"}})
	r := &request{limit: 2, seed: maphash.MakeSeed()}
	check(t, r.decode(b))
	if !r.tooMany {
		t.Fatalf("%+v", r)
	}
	r = &request{seed: r.seed}
	if err := r.decode([]byte{1<<3 | 2, 1, 0xff}); err == nil {
		t.Fatal("bad UTF-8 in a version is taken")
	}
	r = &request{delta: true, limit: 1, seed: r.seed}
	check(t, r.decode(marshal(t, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"a": "1", "b": "2"}})))
	if !r.tooMany {
		t.Fatalf("%+v", r)
	}
	// A proxy's complaint is kept whatever its bytes.
	r = &request{delta: true, seed: r.seed}
	check(t, r.decode([]byte{7<<3 | 2, 3, 2<<3 | 2, 1, 0xff}))
	if !r.rejected || r.rejectText != "\uFFFD" {
		t.Fatalf("%+v", r)
	}
}

func TestCodecPassesOtherMessages(t *testing.T) {
	c := newCodec()
	m := &discoveryv3.DiscoveryRequest{TypeUrl: "x"}
	s, err := c.Marshal(m)
	check(t, err)
	if !bytes.Equal(s.Materialize(), marshal(t, m)) {
		t.Fatal("marshalled otherwise")
	}
	got := &discoveryv3.DiscoveryRequest{}
	check(t, c.Unmarshal(s, got))
	in := &inbox{server: New(Config{}, Deps{})}
	check(t, c.Unmarshal(mem.BufferSlice{mem.SliceBuffer{0xff}}, in))
	if err := in.request.unpack(); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("broken bytes are taken: %v", err)
	}
	if _, err := c.Marshal(unsendable{errDraining()}); err == nil {
		t.Fatal("marshalled what cannot be sent")
	}
}

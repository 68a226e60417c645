package statefulset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
	"github.com/org/envoy-control-plane/deploy/local"
)

const (
	// writers is how many clients write and read at once.
	writers = 6
	// patience is how long whatever must come right again may take.
	patience = 2 * time.Minute
	// attemptTime is how long our own client waits for one answer, where there
	// is another node to ask.
	attemptTime = 12 * time.Second
)

// world is a set with all that uses it.
type world struct {
	t       *testing.T
	set     *set
	api     string // the service
	xds     string // host:port, of all nodes
	token   string
	own     *load.Client // for what the test itself asks
	history *history.Recorder
	swarm   *swarm
	traffic *traffic
	round   int
	turn    int // of changes
}

// newWorld waits for the set, gives it two fleets and starts proxies.
func newWorld(t *testing.T, o *objects, proxies int) *world {
	t.Helper()
	w := &world{t: t, set: runSet(t, o, recordTTL), token: signed(t), history: history.New()}
	w.api, w.xds = w.set.service("http"), w.set.domain()+":18000"
	w.own = w.client(-1, history.New())
	w.own.Attempts = 5
	w.set.rolledOut(t, patience)
	w.traffic = startUpstreams(t)
	w.fleet("edge", fmt.Sprintf(edgeFleet, w.traffic.port))
	w.fleet("swarm", `[{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "swarm", "type": "EDS",
		"eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}}]`)
	if _, err := w.change(); err != nil {
		t.Fatal(err)
	}
	w.traffic.start(t, w.set.objects)
	w.swarm = startSwarm(proxies, "swarm", "swarm", w.xds, w.set.trace.Note)
	t.Cleanup(w.swarm.close)
	local.Eventually(t, patience, "all proxies are connected", w.converged)
	return w
}

func signed(t *testing.T) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "driver", "role": "admin", "tenant": "*", "exp": time.Now().Add(24 * time.Hour).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// client asks what the service for the API leads to; once more, and elsewhere,
// when that fails.
func (w *world) client(id int, h *history.Recorder) *load.Client {
	return load.New(load.Options{
		ID: id, Seed: rand.Uint64(), URLs: w.urls, History: h, Broken: w.t.Errorf, Token: w.token,
		Attempts: 2, AttemptTime: attemptTime, Obeys: true,
	})
}

// urls are those of ready pods.
func (w *world) urls() (urls []string) {
	for _, address := range w.set.endpoints(w.api, "http") {
		urls = append(urls, "http://"+address)
	}
	return urls
}

// fleet makes one with resources, JSON of a list.
func (w *world) fleet(name, resources string) {
	w.t.Helper()
	ctx := w.t.Context()
	if err := w.own.PutFleet(ctx, w.urls()[0], name); err != nil {
		w.t.Fatal(err)
	}
	var upsert []json.RawMessage
	if err := json.Unmarshal([]byte(resources), &upsert); err != nil {
		w.t.Fatal(err)
	}
	body, err := json.Marshal(wire.ChangeSet{Upsert: upsert})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := w.own.Send(ctx, http.MethodPost, w.urls()[0]+load.TenantPath+"/fleets/"+name+"/changes", "fill "+name, body)
	if err != nil || a.Status/100 != 2 {
		w.t.Fatalf("fill fleet %s: %v %s", name, err, a.Body)
	}
}

// change moves the Envoy's requests to the other upstream, and gives all other
// proxies an address that none of them had.
func (w *world) change() (swarm string, err error) {
	w.turn++
	host, port := w.traffic.address(w.turn)
	swarm = fmt.Sprintf("10.20.%d.%d", w.turn/250, w.turn%250)
	return swarm, errors.Join(w.put("web", host, port), w.put("swarm", swarm, "80"))
}

func (w *world) put(service, host, port string) error {
	body := fmt.Appendf(nil, `{"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address":
		{"address": %q, "port_value": %s}}}}]}]}`, host, port)
	urls := w.urls()
	if len(urls) == 0 {
		return errors.New("no pod is ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
	defer cancel()
	key := fmt.Sprintf("%s-%d-%d", service, w.turn, rand.Uint64())
	a, err := w.own.Send(ctx, http.MethodPut, urls[rand.IntN(len(urls))]+load.TenantPath+"/endpoints/"+service, key, body)
	if err == nil && a.Status/100 != 2 {
		err = fmt.Errorf("put %s: %d: %s", service, a.Status, a.Body)
	}
	return err
}

// converged makes a change, and returns nil when every proxy gets it.
func (w *world) converged() error {
	address, err := w.change()
	if err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); ; {
		err := w.swarm.has(address)
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// during does something to the set while clients write and proxies are
// connected, and checks everything once the set is whole again. With a majority
// that lives on, no request to the API may fail.
func (w *world) during(what string, majority bool, f func()) {
	w.t.Helper()
	began, before := time.Now(), w.counts()
	w.set.trace.Note("== %s", what)
	k := load.KeysOfRound(w.round)
	w.round++
	for _, fleet := range k.Fleets {
		if err := w.own.PutFleet(w.t.Context(), w.urls()[0], fleet); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	var users []*load.Client
	for i := range writers {
		users = append(users, w.client(i, w.history))
	}
	var loads sync.WaitGroup
	loads.Go(func() { load.Run(ctx, k, users) })
	loads.Go(func() { w.changes(ctx) })
	f()
	w.set.rolledOut(w.t, patience)
	local.Eventually(w.t, patience, "the cluster is whole", w.whole)
	cancel()
	loads.Wait()
	took := time.Since(began)
	local.Eventually(w.t, patience, "all proxies get a change", w.converged)
	ops := w.check(k)
	after := w.counts()
	w.t.Logf("%s: %s, %v, %d requests through Envoy, %d streams ended", what, took.Round(time.Second),
		history.Summary(ops), after.requests-before.requests, after.ends-before.ends)
	w.judge(before, after, ops, majority)
}

// changes makes them until ctx ends, as long as that is possible.
func (w *world) changes(ctx context.Context) {
	for {
		select {
		case <-time.After(2 * time.Second):
			if _, err := w.change(); err != nil {
				w.set.trace.Note("a change: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		case <-ctx.Done():
			return
		}
	}
}

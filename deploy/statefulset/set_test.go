package statefulset

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/namespace"
)

const (
	// hubIP is where the test is: kubelet, DNS, clients, proxies.
	hubIP = "10.98.255.254"
	// viewEvery is how old what services and DNS know of the pods may be.
	viewEvery = time.Second
)

// set runs a StatefulSet: what its controller does is in sync.
type set struct {
	objects *objects
	image   *image
	dir     string
	bridge  *namespace.Bridge
	trace   *history.Trace

	mu        sync.Mutex
	revisions map[string]*corev1.PodTemplateSpec
	// current is the revision before the update that goes on, update the one
	// that is wanted.
	current, update string
	replicas        int
	partition       int
	pods            map[int]*pod
	view            []podView
	// faults are what must not have happened, restarts what may have been meant.
	faults, restarts []string
}

// podView is what services and DNS know of a pod.
type podView struct {
	name, ip string
	ready    bool
	labels   map[string]string
}

func newSet(o *objects, i *image, dir string, bridge *namespace.Bridge, trace *history.Trace) *set {
	s := &set{
		objects: o, image: i, dir: dir, bridge: bridge, trace: trace,
		revisions: map[string]*corev1.PodTemplateSpec{}, pods: map[int]*pod{}, replicas: 1,
	}
	if r := o.set.Spec.Replicas; r != nil {
		s.replicas = int(*r)
	}
	s.replicas = max(s.replicas, o.minimum)
	partition := 0
	if u := o.set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		partition = int(*u.Partition)
	}
	s.roll(&o.set.Spec.Template, partition)
	s.current = s.update
	return s
}

func (s *set) namespace() string { return cmp.Or(s.objects.set.Namespace, "default") }

// domain is the full name of the headless service, without the last dot.
func (s *set) domain() string {
	return s.objects.set.Spec.ServiceName + "." + s.namespace() + ".svc.cluster.local"
}

// claim is the folder of a pod's volume.
func (s *set) claim(template, pod string) string {
	return filepath.Join(s.dir, "claims", template+"-"+pod)
}

// ips is how many addresses pods have had, of all sets that were on the hub: a
// lost machine's stays unreachable from there (see vanish).
var ips atomic.Int64

func nextIP() string {
	n := ips.Add(1)
	return fmt.Sprintf("10.98.%d.%d", n/250, n%250+1)
}

// wrong notes what must not happen.
func (s *set) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(fmt.Errorf(format, args...))
}

// note is wrong with the lock held; nil is nothing.
func (s *set) note(err error) {
	if err != nil {
		s.trace.Note("wrong: %v", err)
		s.faults = append(s.faults, err.Error())
	}
}

// restarted notes that a container is started again within its pod.
func (s *set) restarted(format string, args ...any) {
	s.trace.Note("restart: "+format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts = append(s.restarts, fmt.Sprintf(format, args...))
}

// roll makes a template the one that is wanted of the pods from an ordinal on.
func (s *set) roll(template *corev1.PodTemplateSpec, partition int) {
	text, err := json.Marshal(template)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.update = fmt.Sprintf("%x", sha256.Sum256(text))[:10]
	s.revisions[s.update], s.partition = template, partition
	s.trace.Note("update to revision %s", s.update)
}

// apply makes the set what another rendering of its chart says.
func (s *set) apply(o *objects) {
	s.mu.Lock()
	s.objects.data, s.objects.minimum = o.data, o.minimum
	s.mu.Unlock()
	s.roll(&o.set.Spec.Template, 0)
}

// wanted is the template of the pods that are updated.
func (s *set) wanted() *corev1.PodTemplateSpec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revisions[s.update]
}

// taken returns what has been noted that must not happen, and of restarts, and
// forgets it.
func (s *set) taken() (faults, restarts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults, restarts = s.faults, s.restarts
	s.faults, s.restarts = nil, nil
	return faults, restarts
}

func (s *set) scale(replicas int) {
	s.trace.Note("scale to %d", replicas)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas = replicas
}

// run controls the set until ctx ends; then its pods are gone.
func (s *set) run(ctx context.Context) {
	var pods sync.WaitGroup
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var seen time.Time
	for ctx.Err() == nil {
		s.sync(&pods)
		if time.Since(seen) >= viewEvery {
			s.look()
			seen = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for _, p := range s.all() {
		p.remove(0)
		p.remove(0) // one that was ending
	}
	pods.Wait()
}

// look is what endpoints are made of.
func (s *set) look() {
	var view []podView
	for _, p := range s.all() {
		view = append(view, podView{p.name, p.ip, p.ready(), p.labels})
	}
	s.mu.Lock()
	s.view = view
	s.mu.Unlock()
}

// all returns the pods that are there, by ordinal.
func (s *set) all() (pods []*pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range slices.Sorted(maps.Keys(s.pods)) {
		pods = append(pods, s.pods[i])
	}
	return pods
}

// pod returns the one of an ordinal, nil when it is not there.
func (s *set) pod(ordinal int) *pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[ordinal]
}

// wipe removes a pod's volumes.
func (s *set) wipe(p *pod) error {
	for _, claim := range s.objects.set.Spec.VolumeClaimTemplates {
		if err := os.RemoveAll(s.claim(claim.Name, p.name)); err != nil {
			return err
		}
	}
	return nil
}

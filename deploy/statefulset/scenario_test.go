package statefulset

import (
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// unnoticed is how long Kubernetes does not notice that a machine is lost. By
// default it takes 40 s until no service leads there, and five minutes more
// until the pod is started elsewhere.
const unnoticed = 15 * time.Second

// scenario is something that happens to the set.
type scenario struct {
	name string
	// majority: one of the voters lives on all the time.
	majority bool
	do       func(w *world)
}

func (w *world) run(scenarios ...scenario) {
	for _, s := range scenarios {
		if !w.t.Failed() {
			w.during(s.name, s.majority, func() { s.do(w) })
		}
	}
}

func TestStatefulSet(t *testing.T) {
	w := newWorld(t, 100)
	w.run(
		scenario{"scaled to 7", true, func(w *world) { w.set.scale(7) }},
		scenario{"scaled to 3, four pods deleted at once", true, func(w *world) { w.set.scale(3) }},
		scenario{"one pod updated", true, func(w *world) { w.update(2) }},
		scenario{"all pods killed together", false, killAll},
	)
}

// update gives the pods another annotation, those from an ordinal on.
func (w *world) update(partition int) {
	template := w.set.wanted().DeepCopy()
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	template.Annotations["updated"] = strconv.FormatInt(time.Now().UnixNano(), 10)
	w.set.roll(template, partition)
}

// updateWrongly rolls a template out whose pods never get ready: it goes no
// further than the first of them, until it is taken back.
func updateWrongly(w *world) {
	good := w.set.wanted()
	bad := good.DeepCopy()
	bad.Spec.Containers[0].ReadinessProbe.HTTPGet.Path = "/nowhere"
	w.set.roll(bad, 0)
	local.Eventually(w.t, patience, "the highest pod is of the bad revision", func() error {
		if p := w.set.pod(2); p == nil || p.terminating() || p.template != bad {
			return errors.New("it is not yet")
		}
		return nil
	})
	time.Sleep(20 * time.Second)
	for i, p := range w.set.all() {
		if (p.template == bad) != (i == 2) || p.ready() != (i != 2) {
			w.t.Errorf("%s: of the bad revision: %v, ready: %v", p.name, p.template == bad, p.ready())
		}
	}
	w.set.roll(good, 0)
}

// evictAll evicts every pod, as draining all machines at once does: one after
// the other, because the budget lets no two go.
func evictAll(w *world) {
	refused := 0
	for _, p := range w.set.all() {
		local.Eventually(w.t, patience, "evict "+p.name, func() error {
			err := w.set.evict(p)
			if errors.Is(err, errBudget) {
				refused++
				time.Sleep(200 * time.Millisecond)
			}
			return err
		})
	}
	if refused == 0 {
		w.t.Error("the disruption budget refused nothing")
	}
}

func killAll(w *world) {
	for _, p := range w.set.all() {
		p.remove(0)
	}
	time.Sleep(time.Second) // until the controller has seen that
}

// again sends the program of a pod a signal, after which it is started again
// in the same pod. SIGKILL ends it at once. One that hangs by SIGSTOP its
// liveness probe finds out; it ignores SIGTERM, and is killed when its grace
// period ends.
func (w *world) again(p *pod, signal syscall.Signal) {
	w.t.Helper()
	pid := p.process()
	if err := p.signal(signal); err != nil {
		w.t.Error(err)
	}
	local.Eventually(w.t, 2*patience, p.name+" is started again", func() error {
		if p.process() == pid {
			return errors.New("it is not")
		}
		return nil
	})
	if restarts := w.set.takeRestarts(); len(restarts) != 1 {
		w.t.Errorf("restarts: %q", restarts)
	}
}

// lose lets a pod's machine vanish. After a while Kubernetes notices, and the
// pod comes back elsewhere, with its volume or with an empty one.
func (w *world) lose(p *pod, wiped bool) {
	if err := p.vanish(); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(unnoticed)
	if wiped {
		if err := w.set.wipe(p); err != nil {
			w.t.Fatal(err)
		}
	}
	p.bury()
}

func (w *world) follower() *pod {
	leader := w.leader()
	for _, p := range w.set.all() {
		if p != leader {
			return p
		}
	}
	return leader
}

//go:build deploy

package statefulset

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// All scenarios, with as many proxies as are promised.
func TestStatefulSetFull(t *testing.T) {
	w := newWorld(t, rendered(t), 1000)
	w.run(
		scenario{"rolling update", true, func(w *world) { w.update(0) }},
		scenario{"scaled to 5", true, func(w *world) { w.set.scale(5) }},
		scenario{"scaled to 7", true, func(w *world) { w.set.scale(7) }},
		scenario{"scaled to 3, four pods deleted at once", true, func(w *world) { w.set.scale(3) }},
		scenario{"evictions", true, evictAll},
		scenario{"update to a pod that does not get ready, and back", true, updateWrongly},
		scenario{"leader's program killed", true, func(w *world) { w.again(w.leader(), syscall.SIGKILL) }},
		scenario{"leader's machine lost", true, func(w *world) { w.lose(w.leader(), false) }},
		scenario{"leader's machine lost with its volume", true, func(w *world) { w.lose(w.leader(), true) }},
		scenario{"follower's machine lost with its volume", true, func(w *world) { w.lose(w.follower(), true) }},
		scenario{"leader's program hangs", true, func(w *world) { w.again(w.leader(), syscall.SIGSTOP) }},
		scenario{"all pods killed together", false, killAll},
		scenario{"rolling update while a fourth pod comes", true, func(w *world) {
			w.update(0)
			w.set.scale(4)
		}},
	)
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
	if faults, restarts := w.set.taken(); len(restarts) != 1 || len(faults) != 0 {
		w.t.Errorf("restarts: %q, faults: %q", restarts, faults)
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

// leader returns the pod whose node leads.
func (w *world) leader() (leader *pod) {
	w.t.Helper()
	local.Eventually(w.t, patience, "somebody leads", func() error {
		for _, p := range w.set.all() {
			if said, err := w.asks(p); err == nil && said.Leader == p.name {
				leader = p
				return nil
			}
		}
		return errors.New("nobody does")
	})
	return leader
}

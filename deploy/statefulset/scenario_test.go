package statefulset

import (
	"strconv"
	"testing"
	"time"
)

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
	w := newWorld(t, rendered(t), 100)
	w.run(
		scenario{"scaled to 7, and one pod updated", true, func(w *world) {
			w.set.scale(7)
			w.update(2)
		}},
		scenario{"scaled to 3, four pods deleted at once", true, func(w *world) { w.set.scale(3) }},
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

func killAll(w *world) {
	for _, p := range w.set.all() {
		p.remove(0)
	}
	time.Sleep(time.Second) // until the controller has seen that
}

//go:build deploy

package statefulset

import (
	"syscall"
	"testing"
)

// All scenarios, with as many proxies as are promised.
func TestStatefulSetFull(t *testing.T) {
	w := newWorld(t, 1000)
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

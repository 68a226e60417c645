//go:build deploy

package statefulset

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/org/envoy-control-plane/deploy/local"
)

// The chart's number of voters is changed while the cluster is in use, as Helm does
// it: the hook first, then all else.
func TestChartChangesVoters(t *testing.T) {
	three, five := chart(t, 3), chart(t, 5)
	w := newWorld(t, chart(t, 3), 100)
	w.run(
		scenario{"helm test", true, func(w *world) { w.complete(three, "api-server-test") }},
		scenario{"five voters", true, func(w *world) {
			w.set.apply(five)
			w.set.scale(5)
		}},
		scenario{"three voters again", true, func(w *world) {
			w.complete(three, "api-server-voters")
			w.complete(three, "api-server-voters") // as a retry does
			w.vote("api-server-0", "api-server-1", "api-server-2")
			w.set.apply(three)
			w.set.scale(3)
		}},
	)
}

// chart renders what Helm applies for a number of voters.
func chart(t *testing.T, voters int) *objects {
	t.Helper()
	helm, err := local.Make(t.Context(), "helm")
	if err != nil {
		t.Fatal(err)
	}
	render := exec.Command(helm[0], "template", "envoy-control", "../helm/envoy-control",
		"--namespace", "envoy-control", "--kube-version", "1.30", "--values", "../helm/plain.yaml",
		"--set", fmt.Sprint("voters=", voters), "--set", fmt.Sprint("autoscaling.minReplicas=", voters))
	text, err := render.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	o, err := parse([]byte(string(text) + secretText))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// vote waits until those nodes vote, and no others, as every pod sees it.
func (w *world) vote(want ...string) {
	w.t.Helper()
	local.Eventually(w.t, patience, "the voters are known everywhere", func() error {
		for _, p := range w.set.all() {
			said, err := w.asks(p)
			if err != nil {
				return err
			}
			if got := voters(said); !slices.Equal(got, want) {
				return fmt.Errorf("%s says that %q vote", p.name, got)
			}
		}
		return nil
	})
}

// complete runs a pod that is not the set's to its end.
func (w *world) complete(o *objects, name string) {
	w.t.Helper()
	template := o.hooks[name]
	if template == nil {
		w.t.Fatalf("the chart has no %s", name)
	}
	if err := w.set.complete(name, template); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
}

// complete does what kubelet does for a pod that is not restarted: its containers
// run one after the other, those of its beginning first. What one has printed is in the error.
func (s *set) complete(name string, template *corev1.PodTemplateSpec) (err error) {
	containers := slices.Concat(template.Spec.InitContainers, template.Spec.Containers)
	p, err := s.hosted(name, template.DeepCopy())
	if err != nil {
		return err
	}
	defer p.host.Close()
	defer func() { err = errors.Join(err, p.clear()) }()
	for i, c := range containers {
		if i > 0 {
			if err := unix.Unmount(p.root, unix.MNT_DETACH); err != nil {
				return err
			}
		}
		p.template.Spec.InitContainers, p.template.Spec.Containers = nil, []corev1.Container{c}
		if err := p.furnish(); err != nil {
			return err
		}
		s.trace.Note("%s (%s): container %s starts", name, p.ip, c.Name)
		running, err := p.start()
		if err != nil {
			return err
		}
		<-running.done
		text, _ := os.ReadFile(p.logFile()) // only for what follows
		s.trace.Note("%s: container %s has ended: %v: %s", name, c.Name, running.err, text)
		if running.err != nil {
			return fmt.Errorf("container %s: %w: %s", c.Name, running.err, text)
		}
	}
	return nil
}

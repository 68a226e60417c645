package statefulset

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/org/envoy-control-plane/deploy/local"
)

// quick returns the rendered set with n pods, the first of which is a cluster
// of its own, and with probes that take no time.
func quick(t *testing.T, n int32) *objects {
	t.Helper()
	o := rendered(t)
	o.set.Spec.Replicas, o.set.Spec.MinReadySeconds = &n, 0
	for _, data := range o.data {
		if data["BOOTSTRAP_EXPECT"] != "" {
			data["BOOTSTRAP_EXPECT"], data["INITIAL_MEMBERS"] = "1", o.set.Name+"-0"
		}
	}
	c := &o.set.Spec.Template.Spec.Containers[0]
	c.Lifecycle = nil
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		p.PeriodSeconds, p.TimeoutSeconds = 1, 1
	}
	c.LivenessProbe.FailureThreshold, c.ReadinessProbe.FailureThreshold = 2, 2
	return o
}

// The life of one pod: where its program runs, how it is started again within
// the pod, and what stays when the pod is deleted.
func TestPod(t *testing.T) {
	o := quick(t, 1)
	c := &o.set.Spec.Template.Spec.Containers[0]
	exec := func(argv ...string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: argv}}
	}
	c.StartupProbe.ProbeHandler = exec("envoy-control-plane", "health")
	c.LivenessProbe.ProbeHandler = corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: c.ReadinessProbe.HTTPGet.Port}}
	c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: exec("/ecpctl", "version", "--client").Exec}}
	s := runSet(t, o, time.Second)
	s.rolledOut(t, 30*time.Second)
	first := s.pod(0)
	if text := read(t, fmt.Sprintf("/proc/%d/status", first.process())); os.Geteuid() == 0 && !strings.Contains(text, "Uid:\t65532\t65532") {
		t.Errorf("it runs as\n%s", text)
	}
	if mounts := read(t, fmt.Sprintf("/proc/%d/mountinfo", first.process())); !strings.Contains(mounts, " / / ro,") {
		t.Errorf("its root is not read-only:\n%s", mounts)
	}
	if env := read(t, fmt.Sprintf("/proc/%d/environ", first.process())); !strings.Contains(env, "ADVERTISE_ADDR="+first.name+".") {
		t.Errorf("its environment is %q", env)
	}

	pid := first.process()
	if err := first.signal(9); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, 30*time.Second, "it is started again", func() error { return s.startedAgain(pid) })
	if s.pod(0) != first {
		t.Error("a program that has ended is started again in the same pod")
	}
	if faults, restarts := s.taken(); len(faults) != 0 || len(restarts) != 1 || !strings.Contains(restarts[0], "signal: killed") {
		t.Errorf("restarts: %q, faults: %q", restarts, faults)
	}

	kept := s.claim("data", first.name)
	before := read(t, kept+"/node.json")
	first.remove(first.grace())
	<-first.gone
	local.Eventually(t, 30*time.Second, "another pod takes its place", func() error {
		if p := s.pod(0); p == nil || p == first || !p.ready() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if s.pod(0).ip == first.ip {
		t.Error("the new pod has the old one's IP")
	}
	if after := read(t, kept+"/node.json"); after != before {
		t.Errorf("its volume had %s and has %s", before, after)
	}
	if faults, _ := s.taken(); len(faults) != 0 {
		t.Errorf("faults: %q", faults)
	}
}

// startedAgain returns nil when the first pod is ready with another process.
func (s *set) startedAgain(pid int) error {
	if p := s.pod(0); p.process() == pid || !p.ready() {
		return fmt.Errorf("process %d, ready %v", p.process(), p.ready())
	}
	return nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\x00", "\n")
}

// A program that hangs is found out by its liveness probe, and killed when its
// grace period is over.
func TestHangingProgram(t *testing.T) {
	o := quick(t, 1)
	grace := int64(2)
	o.set.Spec.Template.Spec.TerminationGracePeriodSeconds = &grace
	s := runSet(t, o, time.Second)
	s.rolledOut(t, 30*time.Second)
	p := s.pod(0)
	pid, began := p.process(), time.Now()
	if err := p.signal(19); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, 30*time.Second, "it is started again", func() error { return s.startedAgain(pid) })
	if faults, restarts := s.taken(); len(faults) != 0 || len(restarts) != 1 || !strings.Contains(restarts[0], "liveness") {
		t.Errorf("restarts: %q, faults: %q", restarts, faults)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it had %s to end, less than its grace period", took)
	}
	if err := p.signal(19); err != nil {
		t.Fatal(err)
	}
	p.remove(p.grace())
	<-p.gone
	if faults, _ := s.taken(); len(faults) != 1 || !strings.Contains(faults[0], "killed: it had not ended after 2s") {
		t.Errorf("faults: %q", faults)
	}
}

// The controller's order, the budget and the names, with three pods one by one.
func TestOrderedReady(t *testing.T) {
	o := quick(t, 3)
	o.set.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	s := runSet(t, o, time.Second)
	s.rolledOut(t, time.Minute)
	s.checkOrder(t, []string{"-0 created", "-0 ready", "-1 created", "-1 ready", "-2 created", "-2 ready"})

	s.roll(annotated(s.wanted(), "second"), 0)
	local.Eventually(t, 30*time.Second, "the highest pod goes", func() error {
		if p := s.pod(2); p != nil && !p.terminating() {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	if err := s.evict(s.pod(0)); err != errBudget { //nolint:errorlint // itself
		t.Errorf("evict another one: %v", err)
	}
	s.rolledOut(t, time.Minute)
	s.checkOrder(t, []string{"-2 deleted", "-2 ready", "-1 deleted", "-1 ready", "-0 deleted", "-0 ready"})

	s.roll(annotated(s.wanted(), "third"), 2)
	s.rolledOut(t, time.Minute)
	if s.pod(2).revision == s.pod(1).revision || s.pod(1).revision != s.pod(0).revision {
		t.Error("an update with partition 2 is for the highest pod alone")
	}

	bad := s.wanted().DeepCopy()
	bad.Spec.Containers[0].ReadinessProbe.HTTPGet.Path = "/nowhere"
	s.roll(bad, 2)
	local.Eventually(t, 30*time.Second, "the highest pod is not ready", func() error {
		if p := s.pod(2); p == nil || p.template != bad || p.process() == 0 {
			return fmt.Errorf("it is not there")
		}
		return nil
	})
	s.checkNames(t)
	s.scale(1)
	local.Eventually(t, 30*time.Second, "two pods go", s.done)
	s.checkOrder(t, []string{"-2 deleted", "-2 gone", "-1 deleted", "-1 gone"})
}

func annotated(template *corev1.PodTemplateSpec, text string) *corev1.PodTemplateSpec {
	next := template.DeepCopy()
	next.Annotations = map[string]string{"test": text}
	return next
}

// checkNames: the headless service has every pod's address if it is to publish
// those that are not ready, and other services have none of these.
func (s *set) checkNames(t *testing.T) {
	t.Helper()
	headless := s.objects.services[s.objects.set.Spec.ServiceName]
	for _, all := range []bool{true, false} {
		s.mu.Lock()
		headless.Spec.PublishNotReadyAddresses = all
		s.mu.Unlock()
		local.Eventually(t, 10*time.Second, "the DNS knows the pods", func() error {
			var want []string
			for _, p := range s.all() {
				if all || p.ready() {
					want = append(want, p.ip)
				}
			}
			got, err := lookup(t, s.domain()+".")
			if slices.Sort(want); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%v %w, want %v", got, err, want)
			}
			_, err = lookup(t, s.pod(2).name+"."+s.domain()+".")
			if all == (err != nil) {
				return fmt.Errorf("the name of the pod that is not ready: %w", err)
			}
			return nil
		})
	}
	if got := s.endpoints(s.service("http"), "http"); len(got) != 2 {
		t.Errorf("the API's service leads to %v", got)
	}
}

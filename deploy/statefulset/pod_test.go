package statefulset

import (
	"context"
	"crypto/rand"
	"maps"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/org/envoy-control-plane/deploy/namespace"
)

// A container that has ended is started again at once, and if it ends again
// after firstBackOff, which doubles up to maxBackOff.
const (
	firstBackOff = 10 * time.Second
	maxBackOff   = 5 * time.Minute
)

// pod is one of the set. What kubelet does for it is in run.
type pod struct {
	set      *set
	name     string
	ordinal  int
	uid      string
	revision string
	template *corev1.PodTemplateSpec
	labels   map[string]string

	host *namespace.Host
	ip   string
	root string // its file system
	env  map[string]string

	doomed chan time.Duration // capacity 1: the grace period of its deletion
	forced chan struct{}      // closed: no grace any more
	lost   chan struct{}      // closed: its machine has vanished
	buried chan struct{}      // closed: Kubernetes has noticed that
	gone   chan struct{}      // closed: nothing is left of it but its claims

	mu     sync.Mutex
	since  time.Time // since when it is ready; zero: it is not
	ending bool
	pid    int // of the container
}

// newPod makes a pod of the set.
func (s *set) newPod(ordinal int, revision string) (*pod, error) {
	p, err := s.hosted(s.objects.set.Name+"-"+strconv.Itoa(ordinal), s.revisions[revision])
	if err != nil {
		return nil, err
	}
	p.ordinal, p.revision = ordinal, revision
	p.labels["statefulset.kubernetes.io/pod-name"] = p.name
	p.labels["apps.kubernetes.io/pod-index"] = strconv.Itoa(ordinal)
	p.labels["controller-revision-hash"] = revision
	if err := p.furnish(); err != nil {
		p.host.Close()
		return nil, err
	}
	return p, nil
}

// hosted makes a pod that has nothing but a network, with an IP that no other had.
func (s *set) hosted(name string, template *corev1.PodTemplateSpec) (*pod, error) {
	p := &pod{
		set: s, name: name, template: template, uid: strings.ToLower(rand.Text()), labels: map[string]string{}, ip: nextIP(),
		doomed: make(chan time.Duration, 1), forced: make(chan struct{}), lost: make(chan struct{}),
		buried: make(chan struct{}), gone: make(chan struct{}),
	}
	maps.Copy(p.labels, template.Labels)
	p.root = filepath.Join(s.dir, "pods", p.uid, "root")
	mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 0}
	_, _ = rand.Read(mac[2:]) // never fails
	var err error
	p.host, err = s.bridge.Add("p"+p.uid[:12], p.ip+"/16", mac)
	return p, err
}

func (p *pod) spec() *corev1.PodSpec { return &p.template.Spec }
func (p *pod) logFile() string       { return filepath.Join(p.set.dir, p.name+".log") }

func (p *pod) grace() time.Duration {
	seconds := int64(30)
	if s := p.spec().TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	return time.Duration(seconds) * time.Second
}

// run keeps the pod's container running until the pod is deleted.
func (p *pod) run() {
	defer close(p.gone)
	defer p.leave()
	for backOff := time.Duration(0); ; backOff = min(max(2*backOff, firstBackOff), maxBackOff) {
		c, err := p.start()
		if err != nil {
			p.set.wrong("%s: %v", p.name, err)
		} else if p.live(c) {
			return
		}
		select {
		case <-time.After(backOff):
		case <-p.doomed:
			return
		}
	}
}

// live is the life of one container; it reports whether the pod ends with it.
func (p *pod) live(c *container) bool {
	p.mu.Lock()
	p.pid = c.cmd.Process.Pid
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	unhealthy := make(chan string, 2)
	go p.watch(ctx, unhealthy)
	select {
	case grace := <-p.doomed:
		cancel()
		p.setReady(false)
		if err := p.stop(c, grace); err != nil {
			p.set.wrong("%s: %v", p.name, err)
		}
		return true
	case <-p.lost:
		cancel()
		p.kill(c)
		select {
		case <-p.buried:
		case <-p.doomed: // the test has ended
		}
		return true
	case why := <-unhealthy:
		cancel()
		p.setReady(false)
		p.set.restarted("%s: %s", p.name, why)
		_ = p.stop(c, p.grace()) // what it says is of a sick program
	case <-c.done:
		p.setReady(false)
		p.set.restarted("%s: its container has ended: %v", p.name, c.err)
	}
	return false
}

func (p *pod) leave() {
	p.host.Close()
	if err := p.clear(); err != nil {
		p.set.wrong("%v", err)
	}
	p.set.trace.Note("%s: gone", p.name)
}

// remove deletes the pod, with a grace period or, 0, without. Again and
// without, it cuts a period short.
func (p *pod) remove(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ending {
		p.ending = true
		p.set.trace.Note("%s: deleted, grace %s", p.name, grace)
		p.doomed <- grace
	} else if grace == 0 {
		select {
		case <-p.forced:
		default:
			close(p.forced)
		}
	}
}

func (p *pod) setReady(ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ready == !p.since.IsZero() || ready && p.ending {
		return
	}
	p.since = time.Time{}
	if ready {
		p.since = time.Now()
	}
	p.set.trace.Note("%s (%s): ready %v", p.name, p.ip, ready)
}

// ready reports whether services lead to the pod.
func (p *pod) ready() bool { return p.available(0) }

// available reports whether it is ready, and has been for so long.
func (p *pod) available(long time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.since.IsZero() && !p.ending && time.Since(p.since) >= long
}

// process is the pid of the container.
func (p *pod) process() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// signal sends the container's process a signal.
func (p *pod) signal(signal syscall.Signal) error {
	return syscall.Kill(p.process(), signal)
}

func (p *pod) terminating() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending
}

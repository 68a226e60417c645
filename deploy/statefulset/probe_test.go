package statefulset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// watch probes a container until ctx ends. Unhealthy gets the reason for which
// it has to be started again.
func (p *pod) watch(ctx context.Context, unhealthy chan<- string) {
	c := &p.spec().Containers[0]
	if c.StartupProbe != nil {
		started := make(chan struct{})
		go p.probe(ctx, "startup", c.StartupProbe, func(ok bool) bool {
			if ok {
				close(started)
			} else {
				unhealthy <- "its startup probe failed"
			}
			return false
		})
		select {
		case <-started:
		case <-ctx.Done():
			return
		}
	}
	if c.LivenessProbe != nil {
		go p.probe(ctx, "liveness", c.LivenessProbe, func(ok bool) bool {
			if !ok {
				unhealthy <- "its liveness probe failed"
			}
			return ok
		})
	}
	if c.ReadinessProbe == nil {
		p.setReady(true)
		return
	}
	p.probe(ctx, "readiness", c.ReadinessProbe, func(ok bool) bool {
		if ctx.Err() == nil {
			p.setReady(ok)
		}
		return true
	})
}

// probe tells of every verdict, until it is told to end: a success or a failure
// that its threshold has confirmed.
func (p *pod) probe(ctx context.Context, name string, probe *corev1.Probe, tell func(ok bool) bool) {
	seconds := func(n, otherwise int32) time.Duration { return time.Duration(cmp.Or(n, otherwise)) * time.Second }
	successes, failures := int32(0), int32(0)
	for wait := time.Duration(probe.InitialDelaySeconds) * time.Second; ; wait = seconds(probe.PeriodSeconds, 10) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		try, cancel := context.WithTimeout(ctx, seconds(probe.TimeoutSeconds, 1))
		err := p.handle(try, corev1.LifecycleHandler{Exec: probe.Exec, HTTPGet: probe.HTTPGet, TCPSocket: probe.TCPSocket})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			successes, failures = successes+1, 0
		} else {
			successes, failures = 0, failures+1
			p.set.trace.Note("%s: %s probe: %v", p.name, name, err)
		}
		confirmed := successes >= max(probe.SuccessThreshold, 1) || failures >= cmp.Or(probe.FailureThreshold, 3)
		if confirmed && !tell(err == nil) {
			return
		}
	}
}

// handle does what a probe or a hook asks for.
func (p *pod) handle(ctx context.Context, h corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		cmd, err := p.command(ctx, h.Exec.Command)
		if err != nil {
			return err
		}
		var out []byte
		err = p.host.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
		if err != nil {
			return fmt.Errorf("%q: %w: %s", h.Exec.Command, err, out)
		}
		return nil
	case h.HTTPGet != nil:
		return p.get(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		port, err := containerPort(p.spec(), h.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(cmp.Or(h.TCPSocket.Host, p.ip), port))
		if err != nil {
			return err
		}
		return conn.Close()
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("this kind of handler is not supported")
}

// get asks by a connection of its own, as kubelet does.
func (p *pod) get(ctx context.Context, action *corev1.HTTPGetAction) error {
	port, err := containerPort(p.spec(), action.Port)
	if err != nil {
		return err
	}
	url := "http://" + net.JoinHostPort(cmp.Or(action.Host, p.ip), port) + "/" + trimSlash(action.Path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	for _, header := range action.HTTPHeaders {
		req.Header.Set(header.Name, header.Value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

func trimSlash(path string) string {
	if path != "" && path[0] == '/' {
		return path[1:]
	}
	return path
}

// containerPort is a number, or the name of one of the container's.
func containerPort(spec *corev1.PodSpec, port intstr.IntOrString) (string, error) {
	if port.Type == intstr.Int {
		return strconv.Itoa(port.IntValue()), nil
	}
	for _, c := range spec.Containers[0].Ports {
		if c.Name == port.StrVal {
			return strconv.Itoa(int(c.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("the container has no port %q", port.StrVal)
}

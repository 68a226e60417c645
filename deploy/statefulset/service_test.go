package statefulset

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// resolve answers for the names of services. One with an address of its own is
// answered with the pods that it leads to, whose ports must be the service's.
func (s *set) resolve(name string) (addresses []string, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range s.objects.services {
		domain := service.Name + "." + s.namespace() + ".svc." + clusterDomain
		governs := service.Name == s.objects.set.Spec.ServiceName
		exists = exists || strings.HasSuffix("."+domain, "."+name)
		for _, v := range s.view {
			published := v.ready || service.Spec.PublishNotReadyAddresses
			named := name == domain || governs && name == v.name+"."+domain
			if published && named && selects(service, v.labels) {
				addresses, exists = append(addresses, v.ip), true
			}
		}
	}
	return addresses, exists
}

// endpoints are those that a service leads to: host:port of ready pods.
func (s *set) endpoints(service, port string) (addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := s.objects.services[service]
	for _, p := range object.Spec.Ports {
		if p.Name != port {
			continue
		}
		for _, v := range s.view {
			target, err := containerPort(&s.revisions[s.update].Spec, p.TargetPort)
			if err == nil && v.ready && selects(object, v.labels) {
				addresses = append(addresses, v.ip+":"+target)
			}
		}
	}
	return addresses
}

func selects(s *corev1.Service, labels map[string]string) bool {
	for name, value := range s.Spec.Selector {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// service returns the one with an address of its own that has a port.
func (s *set) service(port string) string {
	for name, object := range s.objects.services {
		if object.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		for _, p := range object.Spec.Ports {
			if p.Name == port {
				return name
			}
		}
	}
	return ""
}

// url of a pod's API.
func (s *set) url(p *pod) string {
	port, err := containerPort(p.spec(), intstr.FromString("http"))
	if err != nil {
		panic(err)
	}
	return "http://" + p.ip + ":" + port
}

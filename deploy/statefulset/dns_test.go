package statefulset

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	clusterDomain = "cluster.local."
	// recordTTL is CoreDNS's for Kubernetes: as long an answer may be old.
	recordTTL = 5 * time.Second
)

// resolvConf is what kubelet writes for a pod of a namespace.
func resolvConf(namespace string) string {
	return fmt.Sprintf("nameserver %s\nsearch %s.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", hubIP, namespace)
}

// resolver answers for the headless service and its pods, as CoreDNS does with
// its cache: an answer, also that there is none, holds for its TTL.
type resolver struct {
	// addresses returns those of a name below cluster.local, and whether it exists.
	addresses func(name string) ([]string, bool)
	ttl       time.Duration

	mu      sync.Mutex
	cache   map[string]cached
	servers []*dns.Server
}

type cached struct {
	addresses []string
	exists    bool
	until     time.Time
}

// startResolver listens on the hub, UDP and TCP.
func startResolver(addresses func(string) ([]string, bool), ttl time.Duration) (*resolver, error) {
	r := &resolver{addresses: addresses, ttl: ttl, cache: map[string]cached{}}
	packets, err := net.ListenPacket("udp", hubIP+":53")
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	connections, err := net.Listen("tcp", hubIP+":53")
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	r.servers = []*dns.Server{{PacketConn: packets, Handler: r}, {Listener: connections, Handler: r}}
	for _, s := range r.servers {
		go func() { _ = s.ActivateAndServe() }() // ends with close
	}
	return r, nil
}

func (r *resolver) close() {
	for _, s := range r.servers {
		_ = s.Shutdown()
	}
}

// ServeDNS answers one question.
func (r *resolver) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.Authoritative = true
	q := question.Question[0]
	found := r.look(dns.CanonicalName(q.Name))
	if !found.exists {
		answer.Rcode = dns.RcodeNameError
	}
	ttl := uint32(time.Until(found.until).Seconds())
	if q.Qtype == dns.TypeA {
		for _, ip := range found.addresses {
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.ParseIP(ip)})
		}
	}
	if len(answer.Answer) == 0 {
		answer.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: clusterDomain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns:  "ns.dns." + clusterDomain, Mbox: "hostmaster." + clusterDomain, Minttl: ttl,
		}}
	}
	_ = w.WriteMsg(answer) // who asked asks again
}

func (r *resolver) look(name string) cached {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.cache[name]; ok && time.Now().Before(c.until) {
		return c
	}
	c := cached{until: time.Now().Add(r.ttl)}
	c.addresses, c.exists = r.addresses(name)
	r.cache[name] = c
	return c
}

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// simFault is something that happens to a host, or to the links between hosts.
type simFault struct {
	name string
	// begin makes it; the function that it returns ends it.
	begin func(s *simulation, h *simHost, salt uint64) (end func())
}

func simFaults() []simFault {
	return []simFault{
		{"crash", func(s *simulation, h *simHost, _ uint64) func() { return s.down((*simHost).crash, h) }},
		{"crash of all", func(s *simulation, _ *simHost, _ uint64) func() { return s.down((*simHost).crash, s.hosts...) }},
		{"restart", func(s *simulation, h *simHost, _ uint64) func() { return s.down((*simHost).leave, h) }},
		{"wiped disk", func(s *simulation, h *simHost, _ uint64) func() { return s.down((*simHost).wipe, h) }},
		{"cut off", cutting(func(h string, rest []string) []simLink { return linksBetween([]string{h}, rest) })},
		{"hears nothing", cutting(func(h string, rest []string) (links []simLink) {
			for _, o := range rest {
				links = append(links, simLink{o, h})
			}
			return links
		})},
		{"is not heard", cutting(func(h string, rest []string) (links []simLink) {
			for _, o := range rest {
				links = append(links, simLink{h, o})
			}
			return links
		})},
		{"one link cut", cutting(func(h string, rest []string) []simLink { return linksBetween([]string{h}, rest[:1]) })},
		{"split", cutting(func(h string, rest []string) []simLink {
			half := len(rest) / 2
			return linksBetween(append([]string{h}, rest[:half]...), rest[half:])
		})},
		{"all apart", cutting(func(h string, rest []string) []simLink { all := append(rest, h); return linksBetween(all, all) })},
		{"bad weather", weather(simWeather{latency: 20 * time.Millisecond, lost: 150, again: 300, late: 100})},
		{"repetition", weather(simWeather{latency: 5 * time.Millisecond, again: 800, late: 50})},
		{"slow network", weather(simWeather{latency: 150 * time.Millisecond, again: 100})},
		{"slow disk", onDisk(func(d *simDisk) { d.delay = 300 * time.Millisecond })},
		{"hanging disk", onDisk(func(d *simDisk) { d.hang = make(chan struct{}) })},
		{"full disk", onDisk(func(d *simDisk) { d.full = fmt.Errorf("simulated: %w", syscall.ENOSPC) })},
		{"failing disk", func(s *simulation, h *simHost, _ uint64) func() {
			h.disk.Load().set(func(d *simDisk) { d.fail = fmt.Errorf("simulated: %w", syscall.EIO) })
			return func() {
				h.disk.Load().heal()
				s.down((*simHost).crash, h)()
			}
		}},
		{"transfer", func(s *simulation, h *simHost, _ uint64) func() {
			if x := s.net.at(h.id); x != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				s.trace.note(h.id, "is to lead: %v", x.node.TransferLeadership(ctx, h.id))
			}
			return func() {}
		}},
	}
}

// cutting cuts links from a host and the others, in a random order.
func cutting(which func(h string, rest []string) []simLink) func(*simulation, *simHost, uint64) func() {
	return func(s *simulation, h *simHost, salt uint64) func() {
		var rest []string
		for _, i := range rand.New(rand.NewPCG(salt, 0)).Perm(len(s.hosts)) {
			if s.hosts[i] != h {
				rest = append(rest, s.hosts[i].id)
			}
		}
		links := which(h.id, rest)
		s.net.change(links, func(w *simWeather) { w.cut = true })
		return func() { s.net.change(links, func(w *simWeather) { w.cut = false }) }
	}
}

// weather changes all links to and from a host.
func weather(to simWeather) func(*simulation, *simHost, uint64) func() {
	return func(s *simulation, h *simHost, _ uint64) func() {
		links := linksBetween([]string{h.id}, s.ids())
		set := func(v simWeather) {
			s.net.change(links, func(w *simWeather) { v.cut, *w = w.cut, v })
		}
		set(to)
		return func() { set(simWeather{latency: simLatency}) }
	}
}

func onDisk(do func(*simDisk)) func(*simulation, *simHost, uint64) func() {
	return func(_ *simulation, h *simHost, _ uint64) func() {
		h.disk.Load().heal()
		h.disk.Load().set(do)
		return func() { h.disk.Load().heal() }
	}
}

// down brings hosts down; in the end they are up again.
func (s *simulation) down(how func(*simHost), hosts ...*simHost) (up func()) {
	s.each(hosts, how)
	return func() {
		s.each(hosts, func(h *simHost) {
			if h.node != nil {
				return
			}
			if err := h.start(); err != nil {
				s.checks.broken("%w", err)
			}
		})
	}
}

// each does something with hosts at the same time, and alone with each.
func (s *simulation) each(hosts []*simHost, do func(*simHost)) {
	done := make(chan struct{}, len(hosts))
	for _, h := range hosts {
		go func() {
			h.busy.Lock()
			do(h)
			h.busy.Unlock()
			done <- struct{}{}
		}()
	}
	for range hosts {
		<-done
	}
}

// wipe crashes a node, and gives it an empty disk, as long as a majority keeps
// theirs.
func (h *simHost) wipe() {
	h.crash()
	if h.sim.mayWipe() {
		h.wipes++
		h.disk.Store(newSimDisk(h.sim.net, h.sim.plan.forgets))
		h.sim.trace.note(h.id, "has an empty disk")
	}
}

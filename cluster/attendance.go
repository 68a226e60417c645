package cluster

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

const (
	// maxLag is how many entries behind counts as caught up.
	maxLag = 64
	// steady is how many looks in a row a node has to answer before it is
	// given a vote.
	steady = 3
	// maxPassed bounds the time that counts between two looks: a leader that
	// was suspended did not hear whether the others were silent.
	maxPassed = 5 * time.Second
)

// attendance is what a leader remembers of the servers. It begins anew with
// each term: a fresh leader holds nobody's past against them.
type attendance struct {
	replaceAfter time.Duration // 0: nobody ever fails
	forgetAfter  time.Duration // 0: nobody is ever lost

	term    uint64
	last    time.Time // of the last look
	sighted map[string]sighting
}

// sighting is when a server was seen, by its id.
type sighting struct {
	zone   string
	silent time.Duration // since it was last alive
	looks  int           // in a row in which it was alive
}

// look notes how the servers are now, and returns what they are to plan.
func (a *attendance) look(term uint64, now time.Time, servers []standing) []standing {
	if a.term != term {
		a.term, a.last, a.sighted = term, now, nil
	}
	passed := min(now.Sub(a.last), maxPassed)
	a.last = now
	sighted := make(map[string]sighting, len(servers))
	for i := range servers {
		s := &servers[i]
		was := a.sighted[s.serverID]
		if s.alive {
			was = sighting{zone: s.zone, looks: was.looks + 1}
		} else {
			was.silent, was.looks = was.silent+passed, 0
		}
		sighted[s.serverID] = was
		s.zone = was.zone
		s.caughtUp = s.caughtUp && was.looks >= steady
		s.failed = a.replaceAfter > 0 && was.silent >= a.replaceAfter
		s.lost = a.forgetAfter > 0 && was.silent >= a.forgetAfter
	}
	a.sighted = sighted
	return servers
}

// standings is what servers are now, by what they answered.
func (n *Node) standings(servers []raft.Server, infos map[string]*clusterpb.NodeInfo, commit uint64) []standing {
	out := make([]standing, 0, len(servers))
	for _, s := range servers {
		info := infos[string(s.ID)]
		out = append(out, standing{
			serverID: string(s.ID), zone: info.GetZone(), voter: s.Suffrage == raft.Voter,
			leader: string(s.ID) == n.ident.ServerID(), alive: info != nil && !info.OutOfRaft,
			willing: info.GetVoter(), caughtUp: info != nil && info.Applied+maxLag >= commit && info.Applied > 0,
		})
	}
	return out
}

package cluster

import (
	"cmp"
	"slices"
)

// maxVoters: more of them make writes slower and nothing safer.
const maxVoters = 5

// standing is what the leader knows of one server of the configuration.
type standing struct {
	serverID string
	voter    bool
	// alive: it answered under just this id.
	alive bool
	// willing: it may be made a voter.
	willing bool
	// caughtUp: it has applied nearly all that is committed.
	caughtUp bool
}

type change int

const (
	nothing change = iota
	promote
	remove
)

// plan returns the next change of the membership that is due. It never looks
// at anything but its argument.
//
// A node that came back with a new disk is promoted before its old incarnation
// is removed. Other nodes are promoted while there are fewer than five voters
// and the number becomes odd by it, at once or with the next promotion.
func plan(servers []standing) (change, string) {
	servers = slices.Clone(servers)
	slices.SortFunc(servers, func(a, b standing) int { return cmp.Compare(a.serverID, b.serverID) })
	if what, id := planReplacement(servers); what != nothing || id != "" {
		return what, id
	}
	voters := 0
	var ready []string
	for _, s := range servers {
		if s.voter {
			voters++
		} else if s.alive && s.willing && s.caughtUp {
			ready = append(ready, s.serverID)
		}
	}
	due := 1 - voters%2 // an even number needs one more
	if due == 0 {
		due = 2
	}
	if voters+due <= maxVoters && len(ready) >= due {
		return promote, ready[0]
	}
	return nothing, ""
}

// planReplacement looks after nodes with more than one incarnation. It returns
// nothing and an id while such a node has to be waited for.
func planReplacement(servers []standing) (change, string) {
	byNode := map[string][]standing{}
	for _, s := range servers {
		byNode[nodeOf(s.serverID)] = append(byNode[nodeOf(s.serverID)], s)
	}
	for _, s := range servers {
		group := byNode[nodeOf(s.serverID)]
		if s.alive || len(group) == 1 {
			continue
		}
		// s is a past incarnation if another one of its node is alive.
		i := slices.IndexFunc(group, func(o standing) bool { return o.alive })
		if i < 0 {
			continue
		}
		successor := group[i]
		switch {
		case !s.voter, successor.voter, !successor.willing:
			if s.voter && !quorumWithout(servers, s.serverID) {
				continue
			}
			return remove, s.serverID
		case successor.caughtUp:
			return promote, successor.serverID
		default:
			return nothing, successor.serverID
		}
	}
	return nothing, ""
}

// quorumWithout reports whether the voters that are left without some servers
// still have a majority that is alive.
func quorumWithout(servers []standing, ids ...string) bool {
	voters, alive := 0, 0
	for _, s := range servers {
		if !s.voter || slices.Contains(ids, s.serverID) {
			continue
		}
		voters++
		if s.alive {
			alive++
		}
	}
	return voters > 0 && alive >= voters/2+1
}

package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxVoters: more of them make writes slower and nothing safer. While one of
// them is exchanged there is one more for a moment.
const maxVoters = 5

// standing is what the leader knows of one server of the configuration.
type standing struct {
	serverID string
	// zone is the one that it told last; "" when it has none or never told.
	zone   string
	voter  bool
	leader bool
	// alive: it answered under just this id, and takes part in Raft.
	alive bool
	// willing: it may be made a voter. Only the living tell.
	willing bool
	// caughtUp: it has applied nearly all that is committed, and has answered
	// for a while.
	caughtUp bool
	// failed: it has not been alive for Config.ReplaceAfter.
	failed bool
	// lost: it has not been alive for Config.ForgetAfter.
	lost bool
}

type change int

const (
	nothing change = iota
	promote
	demote
	remove
)

func (c change) String() string { return [...]string{"nothing", "promote", "demote", "remove"}[c] }

// step is the next change of the membership, or what it waits for.
type step struct {
	change change
	id     string // server id, "" for nothing
	why    string // for people; "" when nothing is due
}

// String says it in one line, "" when nothing is due.
func (s *step) String() string {
	switch {
	case s == nil:
		return ""
	case s.change == nothing:
		return s.why
	}
	return fmt.Sprintf("%s %s: %s", s.change, nodeOf(s.id), s.why)
}

// plan returns the next change of the membership that is due. It never looks
// at anything but its argument, whose order does not matter.
//
// Invariants, for voters that have a live majority before:
//   - they have one after;
//   - there are at most maxVoters, and one more only until the next step;
//   - a failed voter loses its vote only once another node has been promoted
//     in its place;
//   - a leader loses its vote only when it does not want it.
func plan(servers []standing) step {
	r := roster(slices.Clone(servers))
	slices.SortFunc(r, func(a, b standing) int { return byID(a.serverID, b.serverID) })
	wait := step{}
	for _, rule := range []func(roster) step{roster.succeed, roster.forget, roster.exchange, roster.resize, roster.spread} {
		s := rule(r)
		if s.change != nothing {
			return s
		}
		if wait.why == "" {
			wait = s
		}
	}
	return wait
}

// byID orders node-2 before node-10.
func byID(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) }

// roster is all servers, the lowest id first.
type roster []standing

// succeed looks after nodes with more than one incarnation: the new one is
// promoted, then the old one removed.
func (r roster) succeed() step {
	wait := step{}
	for _, s := range r {
		i := slices.IndexFunc(r, func(o standing) bool { return o.alive && nodeOf(o.serverID) == nodeOf(s.serverID) })
		if s.alive || i < 0 {
			continue
		}
		// s is a past incarnation: another one of its node is alive.
		successor := r[i]
		switch {
		case !s.voter, successor.voter, !successor.willing:
			if !s.voter || quorumWithout(r, s.serverID) {
				return step{remove, s.serverID, "it is a past incarnation of its node"}
			}
		case successor.caughtUp && r.voters() <= maxVoters:
			return step{promote, successor.serverID, "its past incarnation is a voter"}
		default:
			wait = step{why: fmt.Sprintf("%s, back with a new disk, has to catch up", nodeOf(s.serverID))}
		}
	}
	return wait
}

// forget removes nodes that are no voters and have been silent for long.
func (r roster) forget() step {
	for _, s := range r {
		if s.lost && !s.voter {
			return step{remove, s.serverID, "it has not answered for too long"}
		}
	}
	return step{}
}

// exchange takes the vote from those that failed or do not want it, and gives
// it to another node first.
func (r roster) exchange() step {
	voters, ready, wait := r.voters(), r.candidates(), step{}
	full := voters > maxVoters || (voters%2 == 0 && voters > 2)
	for _, s := range r.leaving() {
		node, why := nodeOf(s.serverID), "it does not want to vote"
		if s.failed {
			why = "it has not answered for too long"
		}
		switch {
		case !full && len(ready) > 0:
			return step{promote, ready[0].serverID, fmt.Sprintf("in place of %s: %s", node, why)}
		case (full || !s.failed) && quorumWithout(r, s.serverID):
			return step{demote, s.serverID, why}
		case wait.why == "" && s.failed:
			wait.why = fmt.Sprintf("%s has failed, and no node is there to take its place", node)
		case wait.why == "":
			wait.why = fmt.Sprintf("%s does not want to vote, but the others have no majority without it", node)
		}
	}
	return wait
}

// resize makes the number of voters odd, and larger while nodes are there for
// it.
func (r roster) resize() step {
	voters, ready := r.voters(), r.candidates()
	surplus := r.surplus()
	switch {
	case voters < maxVoters && len(ready) >= 1+voters%2: // an even number needs one more, an odd one two
		return step{promote, ready[0].serverID, "for more voters, and an odd number of them"}
	case voters > maxVoters, voters > 2 && voters%2 == 0:
		if quorumWithout(r, surplus) {
			return step{demote, surplus, "for an odd number of voters, spread over the zones"}
		}
		return step{why: fmt.Sprintf("one of %d voters is too many, but the others have no majority without it", voters)}
	}
	return step{why: r.missing()}
}

// missing says why there are no more voters.
func (r roster) missing() string {
	voters := r.voters()
	if voters >= maxVoters {
		return ""
	}
	for _, s := range r {
		if !s.voter && s.alive && s.willing && !s.caughtUp {
			return fmt.Sprintf("%s has to catch up before it can vote", nodeOf(s.serverID))
		}
	}
	if voters == 2 || len(r.candidates()) > 0 {
		return fmt.Sprintf("one more node is missing for %d voters", voters+1+voters%2)
	}
	return ""
}

// spread promotes a node in a zone that has at least two voters fewer than
// another; resize then takes one of the other zone. Each exchange makes the
// zones more even, so it comes to an end. It waits until all voters are alive.
func (r roster) spread() step {
	ready, zones, most := r.candidates(), r.zones(), 0
	for _, s := range r {
		if s.voter && (!s.alive || !s.willing) {
			return step{}
		}
		most = max(most, zones[s.zone])
	}
	if len(ready) == 0 || most-zones[ready[0].zone] < 2 {
		return step{}
	}
	return step{promote, ready[0].serverID, "another zone has more voters than its own"}
}

func (r roster) voters() int {
	n := 0
	for _, s := range r {
		if s.voter {
			n++
		}
	}
	return n
}

// leaving returns the voters that should not be any: the failed ones, then the
// unwilling, a leader last.
func (r roster) leaving() []standing {
	out := slices.DeleteFunc(slices.Clone(r), func(s standing) bool { return !s.leaves() })
	slices.SortStableFunc(out, func(a, b standing) int {
		return cmp.Or(first(b.failed, a.failed), first(a.leader, b.leader))
	})
	return out
}

func (s standing) leaves() bool { return s.voter && (s.failed || (s.alive && !s.willing)) }

// candidates returns the nodes that could be promoted, those of the zones with
// the fewest voters first.
func (r roster) candidates() []standing {
	zones := r.zones()
	out := slices.DeleteFunc(slices.Clone(r), func(s standing) bool { return s.voter || !s.alive || !s.willing || !s.caughtUp })
	slices.SortStableFunc(out, func(a, b standing) int { return cmp.Compare(zones[a.zone], zones[b.zone]) })
	return out
}

// zones counts the voters that stay, by zone.
func (r roster) zones() map[string]int {
	zones := map[string]int{}
	for _, s := range r {
		if s.voter && !s.leaves() {
			zones[s.zone]++
		}
	}
	return zones
}

// surplus returns the voter that is missed least: one that is silent, else of
// the zone with the most of them; never the leader.
func (r roster) surplus() string {
	zones, id, found := r.zones(), "", standing{}
	for _, s := range r {
		if !s.voter || s.leader {
			continue
		}
		if id == "" || cmp.Or(first(found.alive, s.alive), cmp.Compare(zones[s.zone], zones[found.zone])) >= 0 {
			id, found = s.serverID, s
		}
	}
	return id
}

// first is 1 when only a holds and -1 when only b does.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// quorumWithout reports whether the voters that are left without some servers
// still have a majority that is alive.
func quorumWithout(servers []standing, ids ...string) bool {
	voters, alive := votersWithout(servers, ids...)
	return voters > 0 && alive >= voters/2+1
}

// votersWithout counts the voters that are left without some servers, and those
// of them that are alive.
func votersWithout(servers []standing, ids ...string) (voters, alive int) {
	for _, s := range servers {
		if !s.voter || slices.Contains(ids, s.serverID) {
			continue
		}
		voters++
		if s.alive {
			alive++
		}
	}
	return voters, alive
}

package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// standingsOf reads one server a word: V voter, N non-voter, L the leader; lower case: silent; then its zone, then
// marks: x failed, ! lost, - unwilling, ~ not caught up.
func standingsOf(s string) []standing {
	var out []standing
	for i, word := range strings.Fields(s) {
		kind, marks := word[0], word[1:]
		out = append(out, standing{
			serverID: fmt.Sprintf("n%d/1", i+1), voter: strings.ContainsRune("VvL", rune(kind)), leader: kind == 'L', alive: kind < 'a',
			willing: !strings.Contains(marks, "-"), caughtUp: !strings.Contains(marks, "~"),
			failed: strings.Contains(marks, "x"), lost: strings.Contains(marks, "!"), zone: strings.Trim(marks, "x!-~"),
		})
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		servers string
		what    change
		id      string
		why     string
	}{
		// The number of voters.
		{"L", nothing, "", ""},
		{"L N", nothing, "", "one more node is missing for 3 voters"},
		{"L N N", promote, "n2", ""},
		{"L V N", promote, "n3", ""},
		{"L V", nothing, "", "one more node is missing for 3 voters"},
		{"L V V", nothing, "", ""},
		{"L V V N", nothing, "", "one more node is missing for 5 voters"},
		{"L V V N n", nothing, "", "one more node is missing for 5 voters"},
		{"L V V N N~", nothing, "", "n5 has to catch up"},
		{"L V V N-", nothing, "", ""},
		{"L V V N N", promote, "n4", ""},
		{"L V V V N", promote, "n5", ""},
		{"L V V V", demote, "n4", "odd number"},
		{"V V V L", demote, "n3", "odd number"},
		{"L V v V", demote, "n3", "odd number"}, // who is silent is missed least
		{"L V V V V N N", nothing, "", ""},
		{"L V V V V V V", demote, "n7", "odd number"}, // seven were bootstrapped
		{"N V V V V L N N N N N", nothing, "", ""},
		// Failed voters.
		{"L V v N", nothing, "", ""},
		{"L V vx", nothing, "", "n3 has failed, and no node"},
		{"L V vx N~", nothing, "", "n3 has failed, and no node"},
		{"L V vx N-", nothing, "", "n3 has failed, and no node"},
		{"L V vx N", promote, "n4", "in place of n3"},
		{"L V vx V", demote, "n3", "has not answered"},
		{"L V nx V", nothing, "", ""},
		{"L V V V vx N", promote, "n6", "in place of n5"},
		{"L V V V vx V", demote, "n5", "has not answered"},
		{"L V V V vx", nothing, "", "n5 has failed, and no node"},
		{"L V V vx vx N", promote, "n6", "in place of n4"},
		{"L V V vx vx V", demote, "n4", "has not answered"},
		{"L V V n!", remove, "n4", "has not answered"},
		{"L V v!x", nothing, "", "n3 has failed, and no node"}, // a voter is not removed
		// Those that do not want to vote.
		{"L V V- N", promote, "n4", "in place of n3"},
		{"L V V- V", demote, "n3", "does not want to vote"},
		{"L V V-", demote, "n3", "does not want to vote"},
		{"L v V-", nothing, "", "no majority without it"},
		{"L v V- N", promote, "n4", "in place of n3"},
		{"L-", nothing, "", "no majority without it"},
		{"L- N", promote, "n2", "in place of n1"},
		{"L- V", demote, "n1", "does not want to vote"},
		{"L- V V- V", demote, "n3", "does not want to vote"}, // the leader last
		{"L v V- vx V", nothing, "", "n4 has failed"},        // three of five are alive: n3 is needed
		{"L V V- V vx", demote, "n3", "does not want to vote"},
		// Zones.
		{"La Va Vb Na Nb Nc", promote, "n6", ""},
		{"La Vb Vc Na Nb", promote, "n4", ""}, // all else equal: the lowest id
		{"La Va Va Nb", promote, "n4", "another zone"},
		{"La Va Va Vb", demote, "n3", "spread over the zones"},
		{"Va Va La Vb", demote, "n2", "spread over the zones"},
		{"La Va Vb Nc", promote, "n4", "another zone"},
		{"La Va Vb Nb", nothing, "", ""}, // nothing is gained by an exchange
		{"La Va va Nb", nothing, "", ""}, // not while one is silent
		{"La Va Va Nb~", nothing, "", ""},
		{"La Va Va Vb Vc Nb Nc", promote, "n6", ""},
		{"La Va Va Vb Vb Nc", promote, "n6", "another zone"},
		{"La Va Va Vb Vb Vc", demote, "n3", "spread over the zones"},
		{"La Vb vcx Na Nc", promote, "n5", "in place of n3"},
	} {
		s := plan(standingsOf(c.servers))
		if s.change != c.what || nodeOf(s.id) != c.id || !strings.Contains(s.why, c.why) || (c.what != nothing && s.why == "") {
			t.Errorf("%s: %q, want %v %s: %q", c.servers, s.String(), c.what, c.id, c.why)
		}
	}
}

func TestPlanReplacesIncarnations(t *testing.T) {
	fresh := standing{serverID: "n3/2", alive: true, willing: true}
	with := func(change func(*standing)) []standing {
		f := fresh
		change(&f)
		return append(standingsOf("L V v"), f)
	}
	for _, c := range []struct {
		name   string
		change func(*standing)
		want   string
	}{
		{"behind", func(*standing) {}, "n3, back with a new disk, has to catch up"},
		{"caught up", func(s *standing) { s.caughtUp = true }, "promote n3: its past incarnation is a voter"},
		{"promoted", func(s *standing) { s.caughtUp, s.voter = true, true }, "remove n3: it is a past incarnation of its node"},
		{"unwilling", func(s *standing) { s.willing = false }, "remove n3: it is a past incarnation of its node"},
		{"both silent", func(s *standing) { s.alive, s.caughtUp = false, true }, ""},
	} {
		if s := plan(with(c.change)); s.String() != c.want || (s.change == remove && s.id != "n3/1") || (s.change == promote && s.id != "n3/2") {
			t.Errorf("%s: %q %q", c.name, s.String(), s.id)
		}
	}
}

func TestLowestID(t *testing.T) {
	s := standingsOf("L V V N N")
	s[3].serverID, s[4].serverID = "n10/1", "n9/1"
	if got := plan(s); got.id != "n9/1" {
		t.Errorf("%v", got)
	}
}

// randomStandings has a live majority.
func randomStandings(rng *rand.Rand) []standing {
	for {
		var servers []standing
		one := rng.IntN(2) // whether nodes may have two incarnations
		for i := range 1 + rng.IntN(12) {
			s := standing{
				serverID: fmt.Sprintf("n%d/%d", i-one*(i%5/4), i), zone: string(rune('a' + rng.IntN(3))),
				voter: i == 0 || (i < 7 && rng.IntN(2) == 0), leader: i == 0,
				alive: i == 0 || rng.IntN(5) > 0, willing: rng.IntN(6) > 0, caughtUp: rng.IntN(6) > 0,
			}
			s.failed = !s.alive && rng.IntN(2) == 0
			s.lost = s.failed && rng.IntN(3) == 0
			servers = append(servers, s)
		}
		if quorumWithout(servers) {
			return servers
		}
	}
}

// after is what becomes of servers by a step; a leader that gives up its vote
// hands over before.
func after(servers []standing, s step) []standing {
	out := slices.Clone(servers)
	i := slices.IndexFunc(out, func(o standing) bool { return o.serverID == s.id })
	switch s.change {
	case promote:
		out[i].voter = true
	case demote:
		out[i].voter = false
		if out[i].leader {
			out[i].leader = false
			next := slices.IndexFunc(out, func(o standing) bool { return o.voter && o.alive })
			out[next].leader = true
		}
	case remove:
		out = slices.Delete(out, i, i+1)
	case nothing:
	}
	return out
}

func checkStep(t *testing.T, servers []standing, s step) {
	t.Helper()
	r := roster(servers)
	i := slices.IndexFunc(servers, func(o standing) bool { return o.serverID == s.id })
	if i < 0 {
		t.Fatalf("%s: no such server in %+v", s.String(), servers)
	}
	was, voters := servers[i], r.voters()
	past := slices.ContainsFunc(servers, func(o standing) bool {
		return o.alive && o.serverID != was.serverID && nodeOf(o.serverID) == nodeOf(was.serverID)
	})
	var wrong string
	switch {
	case s.change == promote && (was.voter || !was.alive || !was.willing || !was.caughtUp):
		wrong = "promotes one that should not vote"
	case s.change == promote && voters > maxVoters:
		wrong = "promotes a second one too many"
	case s.change == demote && !was.voter:
		wrong = "demotes no voter"
	case s.change == demote && was.leader && was.willing:
		wrong = "moves the leader"
	case s.change == demote && was.failed && voters%2 == 1 && voters <= maxVoters:
		wrong = "a failed voter goes before its replacement has come"
	case s.change == demote && !was.failed && was.willing && voters%2 == 1 && voters <= maxVoters:
		wrong = "demotes a good voter"
	case s.change == remove && (was.alive || (!past && (was.voter || !was.lost))):
		wrong = "removes a member"
	case !quorumWithout(after(servers, s)):
		wrong = "takes the majority"
	default:
		return
	}
	t.Fatalf("%s: %s: %+v", s.String(), wrong, servers)
}

func checkRest(t *testing.T, servers []standing) {
	t.Helper()
	r := roster(servers)
	voters, ready := r.voters(), r.candidates()
	if voters > maxVoters || (voters%2 == 0 && (voters > 2 || len(ready) > 0)) || (voters < maxVoters && len(ready) > 1) {
		t.Fatalf("rests with %d voters and %d ready: %+v", voters, len(ready), servers)
	}
	zones := r.zones()
	whole := true
	for _, s := range servers {
		whole = whole && (!s.voter || s.alive)
		if s.voter && s.failed && len(ready) > 0 {
			t.Fatalf("%s has failed and is not replaced: %+v", s.serverID, servers)
		}
		if s.voter && s.alive && !s.willing && quorumWithout(servers, s.serverID) {
			t.Fatalf("%s votes against its will: %+v", s.serverID, servers)
		}
		if s.lost && !s.voter {
			t.Fatalf("%s is not removed: %+v", s.serverID, servers)
		}
	}
	for _, v := range servers {
		if whole && v.voter && len(ready) > 0 && zones[v.zone]-zones[ready[0].zone] > 1 {
			t.Fatalf("zone %s has %d voters, %s none in: %+v", v.zone, zones[v.zone], ready[0].serverID, servers)
		}
	}
}

// Whatever the standings: each step keeps the invariants, the order of the
// servers does not matter, and it comes to a good rest.
func TestPlanComesToRest(t *testing.T) {
	for seed := range uint64(20000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		servers := randomStandings(rng)
		for step := 0; ; step++ {
			s := plan(servers)
			rng.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
			if other := plan(servers); other != s {
				t.Fatalf("%v in one order, %v in another: %+v", s, other, servers)
			}
			if s.change == nothing {
				checkRest(t, servers)
				break
			}
			if step > 30 {
				t.Fatalf("no rest, seed %d: %+v", seed, servers)
			}
			checkStep(t, servers, s)
			servers = after(servers, s)
		}
	}
}

// While nodes come, go and change their mind between the steps, no step breaks
// an invariant.
func TestPlanWhileNodesComeAndGo(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		servers := randomStandings(rng)
		for range 60 {
			next := slices.Clone(servers)
			s := &next[rng.IntN(len(next))]
			switch rng.IntN(4) {
			case 0:
				s.alive, s.failed, s.lost = true, false, false
			case 1:
				s.alive = s.leader
			case 2:
				s.failed = !s.alive
				s.lost = s.failed && rng.IntN(4) == 0
			default:
				s.willing, s.caughtUp = rng.IntN(3) > 0, rng.IntN(3) > 0
			}
			if quorumWithout(next) { // without one nothing is committed
				servers = next
			}
			if due := plan(servers); due.change != nothing {
				checkStep(t, servers, due)
				servers = after(servers, due)
			}
		}
	}
}

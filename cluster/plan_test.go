package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A letter a server: V voter, N non-voter; lower case: down.
func standingsOf(s string) []standing {
	var out []standing
	for i, c := range s {
		out = append(out, standing{
			serverID: fmt.Sprintf("n%d/1", i), voter: c == 'V' || c == 'v', alive: c < 'a', willing: true, caughtUp: true,
		})
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		servers string
		what    change
		id      string
	}{
		{"V", nothing, ""},
		{"VN", nothing, ""},
		{"VNN", promote, "n1/1"},
		{"VVN", promote, "n2/1"},
		{"VVV", nothing, ""},
		{"VVVN", nothing, ""},
		{"VVVNn", nothing, ""},
		{"VVVNN", promote, "n3/1"},
		{"VVVVN", promote, "n4/1"},
		{"VVVVVNN", nothing, ""},
		{"VVvN", nothing, ""}, // a dead voter is not replaced by another node
	} {
		if what, id := plan(standingsOf(c.servers)); what != c.what || id != c.id {
			t.Errorf("%s: %v %q, want %v %q", c.servers, what, id, c.what, c.id)
		}
	}
}

func TestPlanReplacesIncarnations(t *testing.T) {
	base := standingsOf("VVv")
	fresh := standing{serverID: "n2/2", alive: true, willing: true}
	with := func(change func(*standing)) []standing {
		f := fresh
		change(&f)
		return append(standingsOf("VVv"), f)
	}
	if what, id := plan(append(base, fresh)); what != nothing || id != "n2/2" {
		t.Errorf("before it caught up: %v %s", what, id)
	}
	if what, id := plan(with(func(s *standing) { s.caughtUp = true })); what != promote || id != "n2/2" {
		t.Errorf("caught up: %v %s", what, id)
	}
	if what, id := plan(with(func(s *standing) { s.caughtUp, s.voter = true, true })); what != remove || id != "n2/1" {
		t.Errorf("promoted: %v %s", what, id)
	}
	if what, id := plan(with(func(s *standing) { s.willing = false })); what != remove || id != "n2/1" {
		t.Errorf("came back as a non-voter: %v %s", what, id)
	}
	if what, _ := plan(with(func(s *standing) { s.alive, s.caughtUp = false, true })); what != nothing {
		t.Errorf("both down: %v", what)
	}
}

// Whatever the standings: the plan comes to rest and never takes away the live
// majority.
func TestPlanComesToRest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var servers []standing
		for i := range 1 + rng.IntN(8) {
			servers = append(servers, standing{
				serverID: fmt.Sprintf("n%d/%d", i/2*rng.IntN(2)+i%5, i), voter: i == 0 || (i < 5 && rng.IntN(2) == 0),
				alive: rng.IntN(4) > 0, willing: rng.IntN(4) > 0, caughtUp: rng.IntN(4) > 0,
			})
		}
		for step := 0; ; step++ {
			what, id := plan(servers)
			if what == nothing {
				break
			}
			if step > 20 {
				t.Fatalf("no rest: %+v", servers)
			}
			had := quorumWithout(servers)
			for i, s := range servers {
				if s.serverID != id {
					continue
				}
				if what == promote {
					servers[i].voter = true
				} else {
					servers = append(servers[:i:i], servers[i+1:]...)
				}
				break
			}
			if had && !quorumWithout(servers) {
				t.Fatalf("%v %s took the majority: %+v", what, id, servers)
			}
		}
	}
}

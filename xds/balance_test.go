package xds

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/fsm"
)

func TestPlan(t *testing.T) {
	open := func(streams ...int) []Load {
		var out []Load
		for i, n := range streams {
			out = append(out, Load{Node: string(rune('a' + i)), Streams: n, Open: true})
		}
		return out
	}
	but := func(loads []Load, i int) []Load {
		loads[i].Open = false
		return loads
	}
	for _, c := range []struct {
		name  string
		loads []Load
		want  int
	}{
		{"nobody is known", nil, 0},
		{"alone", open(1000), 0},
		{"even", open(1000, 1000, 1000), 0},
		{"within the margin", open(1100, 1000, 900), 0},
		{"over it by one", open(1101, 1000, 899), 1},
		{"far over it", open(3000, 0, 0), 12},
		{"a few streams stay", open(15, 0), 0},
		{"a small cluster", open(40, 0), 1},
		{"bounded", open(90_000, 0, 0), maxMoved},
		{"under its share", open(0, 3000, 0), 0},
		{"the others take none", but(open(3000, 0), 1), 0},
		{"what a closed node has comes to the open ones", but(open(1000, 1000, 0), 1), 0},
		{"no share to have", but(but(open(500, 0), 0), 1), 0},
	} {
		if got := plan(c.loads, "a"); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Nodes that know each other's loads of some seconds ago come to rest, and
// none ever sheds more than it has over its share.
func TestPlanComesToRest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, delay := range []int{0, 1, 3} {
		for _, begin := range [][]int{{9000, 0, 0}, {5000, 5000, 0}, {100, 0, 0, 0, 0}, {10_000, 10, 3000, 0, 7}} {
			history := [][]int{begin}
			share := fairShare(loadsOf(begin))
			moved, quiet := 0, 0
			for second := 0; quiet < 10; second++ {
				if second > 2000 {
					t.Fatalf("%v, %d s late: no rest after %v", begin, delay, history[len(history)-1])
				}
				now := history[len(history)-1]
				seen := loadsOf(history[max(0, len(history)-1-delay)])
				next := append([]int(nil), now...)
				quiet++
				for i := range now {
					own := append([]Load(nil), seen...)
					own[i].Streams = now[i]
					n := plan(own, own[i].Node)
					if n > 0 && now[i] < share {
						t.Fatalf("%v, %d s late: node %d of %v sheds %d, under its share", begin, delay, i, now, n)
					}
					if n > 0 {
						quiet = 0
					}
					for range n { // to any of the others
						next[i]--
						next[(i+1+random.IntN(len(now)-1))%len(now)]++
					}
					moved += n
				}
				history = append(history, next)
			}
			excess := 0
			for _, n := range begin {
				excess += max(0, n-share)
			}
			if moved > 3*excess {
				t.Errorf("%v, %d s late: %d moves for %d streams too many", begin, delay, moved, excess)
			}
		}
	}
}

func loadsOf(streams []int) []Load {
	var out []Load
	for i, n := range streams {
		out = append(out, Load{Node: string(rune('a' + i)), Streams: n, Open: true})
	}
	return out
}

// A settled proxy is moved with all its streams and its connection, once; one
// that has something to answer stays.
func TestProxiesAreMoved(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.SettledAfter = time.Nanosecond })
		f.replace(cluster(t, "a", 1))
		b := &balancer{server: f.server, shed: map[proxyKey]time.Time{}}
		conn := f.dial()
		first := f.connectOn(conn, method, node("p1", "web", ""))
		first.ask(fsm.TypeCluster)
		r := first.want("cluster a")
		eventually(t, "it is there", func() bool { return f.server.Streams() == 1 })
		b.move(1, time.Now())
		first.quiet() // its answer is missing

		first.ack(r)
		eventually(t, "it is settled", func() bool { return settled(f.server.tracked(), time.Now()) })
		second := f.connectOn(conn, method, node("p1", "web", ""))
		second.ask(fsm.TypeCluster)
		second.accept("cluster a")
		eventually(t, "both are settled", func() bool {
			return f.server.Streams() == 2 && settled(f.server.tracked(), time.Now())
		})
		peer := f.server.tracked()[0].peer
		b.move(1, time.Now())
		for _, c := range []*client{first, second} {
			if err := c.end(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "share") {
				t.Fatalf("ended with %v", err)
			}
		}
		if n := f.metric("ecp_xds_moved_total"); n != 2 {
			t.Fatalf("%v streams were moved", n)
		}

		// It comes back by another connection, and stays.
		eventually(t, "its connection is closed", func() bool { return conn.GetState() != connectivity.Ready })
		again := f.connectOn(conn, method, node("p1", "web", ""))
		again.ask(fsm.TypeCluster)
		again.accept("cluster a")
		eventually(t, "it is back", func() bool { return settled(f.server.tracked(), time.Now()) && f.server.Streams() == 1 })
		if f.server.tracked()[0].peer == peer {
			t.Fatal("it came by the same connection")
		}
		b.move(1, time.Now())
		again.quiet()
		b.move(1, time.Now().Add(stickyFor+time.Second))
		if again.end() == nil {
			t.Fatal("it is never moved again")
		}
	})
}

package feed_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/org/envoy-control-plane/api/apitest"
	"github.com/org/envoy-control-plane/api/feed"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// However many readers wait, no more than a row of them is woken at once; all of
// them are, and find the event.
func TestReadersAreWokenInRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, err := apitest.NewCluster()
		if err != nil {
			t.Fatal(err)
		}
		const readers, atOnce = 500, 128
		hub := feed.New(cluster, nil, readers)
		found := make(chan time.Time, readers)
		for range readers {
			r, err := hub.Open("shop")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				for {
					events, _, more, err := r.Next(make([]*feed.Entry, 2))
					if err != nil || len(events) > 0 {
						if len(events) != 1 || events[0].Event.Tenant != "shop" {
							t.Errorf("a reader found %d events: %v", len(events), err)
						}
						found <- time.Now()
						return
					}
					<-more
				}
			}()
		}
		synctest.Wait()
		put := &fsmpb.Command{Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: "shop"}}}
		if _, err := cluster.Propose(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		times := map[time.Time]int{}
		for range readers {
			at := <-found
			times[at]++
			if times[at] > atOnce {
				t.Fatalf("%d readers were woken at once", times[at])
			}
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("the last of %d readers was woken after %s", readers, took)
		}
	})
}

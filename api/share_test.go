package api

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestShareLooksOnceForAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare[string, int]()
		var truth, looks atomic.Int64
		look := func(context.Context) int {
			looks.Add(1)
			seen := truth.Load() // a look may see what was true as it began
			time.Sleep(time.Second)
			return int(seen)
		}
		var wg sync.WaitGroup
		ask := func(key string) {
			asked := truth.Load()
			wg.Go(func() {
				got, err := s.do(t.Context(), key, look)
				if err != nil || int64(got) < asked {
					t.Errorf("%s: told %d (%v), asked when it was %d", key, got, err, asked)
				}
			})
		}
		ask("a")
		synctest.Wait()
		for range 50 { // during the first look
			truth.Add(1)
			ask("a")
		}
		ask("b") // another question
		wg.Wait()
		if n := looks.Load(); n != 3 {
			t.Errorf("%d looks", n)
		}
		if len(s.now)+len(s.next) != 0 {
			t.Errorf("left behind: %v, %v", s.now, s.next)
		}
	})
}

func TestShareOutlivesWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare[string, bool]()
		look := func(ctx context.Context) bool {
			time.Sleep(time.Second)
			return ctx.Err() == nil
		}
		var wg sync.WaitGroup
		ask := func(ctx context.Context, want error) {
			wg.Go(func() {
				if ok, err := s.do(ctx, "a", look); ok != (want == nil) || !errors.Is(err, want) {
					t.Errorf("%v, %v, want %v", ok, err, want)
				}
			})
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		ask(t.Context(), nil)
		ask(leaving, context.Canceled) // the first of those behind
		ask(t.Context(), nil)
		leave()
		wg.Wait()
	})
}

package api

import (
	"context"
	"sync"
)

// share has requests that ask the same at the same time look once: a look
// serves all that came before it began, and what comes during it waits for the
// next. So nobody is told what was true before they asked.
type share[K comparable, V any] struct {
	mu sync.Mutex
	// Of each key the look under way, and the one behind it.
	now, next map[K]*turn[V]
}

// turn is one look; out is set before done is closed.
type turn[V any] struct {
	done chan struct{}
	out  V
}

func newShare[K comparable, V any]() *share[K, V] {
	return &share[K, V]{now: map[K]*turn[V]{}, next: map[K]*turn[V]{}}
}

// do returns what a look that began after the call has seen. The look is not
// ended by ctx, which may be that of one request of several.
func (s *share[K, V]) do(ctx context.Context, key K, look func(context.Context) V) (out V, err error) {
	s.mu.Lock()
	t := s.next[key]
	if t == nil {
		t = &turn[V]{done: make(chan struct{})}
		s.next[key] = t
		go s.run(context.WithoutCancel(ctx), key, t, s.now[key], look)
	}
	s.mu.Unlock()
	select {
	case <-t.done:
		return t.out, nil
	case <-ctx.Done():
		return out, ctx.Err()
	}
}

func (s *share[K, V]) run(ctx context.Context, key K, t, before *turn[V], look func(context.Context) V) {
	if before != nil {
		<-before.done
	}
	s.mu.Lock()
	delete(s.next, key)
	s.now[key] = t
	s.mu.Unlock()
	t.out = look(ctx)
	s.mu.Lock()
	if s.now[key] == t {
		delete(s.now, key)
	}
	s.mu.Unlock()
	close(t.done)
}

package cluster

import (
	"container/heap"
	"sync"
)

// waiters are calls that wait for the state to reach an index, lowest first.
type waiters struct {
	mu   sync.Mutex
	heap waiterHeap
}

// waiter waits for one index; done is closed when it is reached.
type waiter struct {
	index uint64
	done  chan struct{}
	at    int // position in the heap, -1 once out of it
}

func (w *waiters) add(index uint64) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := &waiter{index: index, done: make(chan struct{})}
	heap.Push(&w.heap, x)
	return x
}

func (w *waiters) remove(x *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.at >= 0 {
		heap.Remove(&w.heap, x.at)
	}
}

// reached wakes all that wait for an index up to this one.
func (w *waiters) reached(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 && w.heap[0].index <= index {
		x := heap.Pop(&w.heap).(*waiter) //nolint:forcetypeassert // the heap holds nothing else
		close(x.done)
	}
}

type waiterHeap []*waiter

// Len implements heap.Interface.
func (h waiterHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h waiterHeap) Less(i, j int) bool { return h[i].index < h[j].index }

// Swap implements heap.Interface.
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter) //nolint:forcetypeassert // add pushes nothing else
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	w.at = -1
	*h = old[:len(old)-1]
	return w
}

package main

import (
	"os"
	"runtime"
)

// heapFloor is what the garbage collector takes for live from the start, in
// bytes. A small state would else be collected dozens of times a second under
// load, a tenth of the node's CPU. It is never touched, so it takes no memory by
// itself; garbage may grow to as much.
const heapFloor = 64 << 20

// holdHeap sets the floor until release is called, unless the operator tells the
// collector what to do.
func holdHeap() (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(&floor[0]) }
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/xds"
)

// backend is one of the servers that are compared.
type backend interface {
	// options are what it needs beside, or instead of, those of package xds.
	options() []grpc.ServerOption
	register(*grpc.Server)
	// change makes change n of the scene known to all streams.
	change(n int) error
	// acks counts the responses that clients accepted.
	acks() (uint64, error)
}

// serverNames are the backends, in the order of their turns.
func serverNames() []string { return []string{"b0", "b1", "ecp"} }

func newBackend(name string, o *options) (backend, error) {
	s := newScene(o.fleets, o.clusters, o.endpoints)
	switch name {
	case "b0":
		return newB0(o.protocol, s, o.resumed)
	case "b1":
		return newB1(s)
	case "ecp":
		return newECP(s)
	default:
		return nil, misuse("no server is called %q", name)
	}
}

// order is a line that a server process reads; answer is the line that it
// writes to each, and once by itself, when it serves.
type (
	order struct {
		Do     string `json:"do"` // change, changes, apply, acks, settle, drain, profile, heap
		Change int    `json:"change,omitempty"`
		Count  int    `json:"count,omitempty"` // of changes, from Change on, and of applies
		Rate   int    `json:"rate,omitempty"`  // of changes, a second
		Path   string `json:"path,omitempty"`  // of a profile; none ends it
	}
	answer struct {
		Address string          `json:"address,omitempty"`
		Acks    uint64          `json:"acks,omitempty"`
		Last    int64           `json:"last,omitempty"` // when the last change was made, in nanoseconds since the Unix epoch
		Applies []time.Duration `json:"applies,omitempty"`
		Error   string          `json:"error,omitempty"`
	}
)

// serveBackend is a server process: it serves until its input ends.
func serveBackend(b backend, in io.Reader, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	base := xds.New(xds.Config{}, xds.Deps{}).ServerOptions()
	g := grpc.NewServer(append(base, b.options()...)...)
	b.register(g)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var errServe, errRun error
	wg.Go(func() { errServe = g.Serve(listener) })
	if r, ok := b.(interface{ run(context.Context) error }); ok {
		wg.Go(func() { errRun = r.run(ctx) })
	}
	err = obey(b, g.Stop, listener.Addr().String(), in, out)
	g.Stop()
	cancel()
	wg.Wait()
	return errors.Join(err, errServe, errRun)
}

// obey carries out orders until there are no more; stop ends all streams.
func obey(b backend, stop func(), address string, in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	if err := answers.Encode(answer{Address: address}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	for {
		var o order
		err := orders.Decode(&o)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		a, err := do(b, stop, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func do(b backend, stop func(), o order) (a answer, err error) {
	switch o.Do {
	case "change":
		err = b.change(o.Change)
	case "changes":
		a.Last, err = changes(b, o)
	case "apply":
		a.Applies, err = applies(b, o.Count)
	case "acks":
		a.Acks, err = b.acks()
	case "settle":
		settle()
	case "drain":
		if d, ok := b.(interface{ drain() }); ok {
			stop = d.drain
		}
		stop()
	case "profile":
		err = profileCPU(o.Path)
	case "heap":
		err = profileHeap(o.Path)
	default:
		err = fmt.Errorf("order %q is not known", o.Do)
	}
	return a, err
}

// settle gives back what is not in use: pools empty in two collections.
func settle() {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
}

func profileCPU(path string) error {
	if path == "" {
		pprof.StopCPUProfile() // writes what is left to the file
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	return nil // the process ends with the profile
}

func profileHeap(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

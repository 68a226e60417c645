package api_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api"
)

// BenchmarkSubscribers measures what streams of events cost the node: memory for
// each one that waits, and the node's CPU for each event delivered. The
// subscribers are in a process of their own. ECP_SUBSCRIBERS says how many, 2,000 by default.
func BenchmarkSubscribers(b *testing.B) {
	if address := os.Getenv("ECP_SUBSCRIBE_TO"); address != "" {
		subscribeAll(b, address)
		return
	}
	n := 2000
	if v, err := strconv.Atoi(os.Getenv("ECP_SUBSCRIBERS")); err == nil {
		n = v
	}
	l := newLedger()
	node := newNode(l)
	server, err := api.New(api.Config{}, api.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: node, Resources: plainResources{},
	})
	if err != nil {
		b.Fatal(err)
	}
	ts := httptest.NewServer(server.Handler())
	defer ts.Close()
	before := memory()
	child := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkSubscribers$", "-test.benchtime", "1x")
	child.Env = append(os.Environ(), "ECP_SUBSCRIBE_TO="+ts.Listener.Addr().String(), "ECP_SUBSCRIBERS="+strconv.Itoa(n))
	told, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	lines := bufio.NewScanner(told)
	await := func(what string) {
		for lines.Scan() {
			if lines.Text() == what {
				return
			}
		}
		b.Fatalf("the subscribers ended before %s", what)
	}
	await("open")
	held := memory() - before
	cpu := processCPU()
	b.ResetTimer()
	for i := range b.N {
		l.notes(1)
		await("round " + strconv.Itoa(i+1))
	}
	b.StopTimer()
	b.ReportMetric(float64(held)/float64(n)/1024, "KB/subscriber")
	b.ReportMetric(float64((processCPU()-cpu).Nanoseconds())/float64(n)/float64(b.N), "cpu-ns/delivery")
}

// memory is what the heap and the stacks hold.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// subscribeAll opens the streams and says when each event has reached all.
func subscribeAll(b *testing.B, address string) {
	n, err := strconv.Atoi(os.Getenv("ECP_SUBSCRIBERS"))
	if err != nil {
		b.Fatal(err)
	}
	var open, got atomic.Int64
	var readers sync.WaitGroup
	round := make(chan int64, 1024)
	for range n {
		var d net.Dialer
		c, err := d.DialContext(b.Context(), "tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		readers.Go(func() {
			defer func() { _ = c.Close() }()
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", eventPath)
			r := bufio.NewReaderSize(c, 1024)
			for {
				line, err := r.ReadSlice('\n')
				switch {
				case err != nil && err != bufio.ErrBufferFull: //nolint:errorlint // ReadSlice wraps nothing
					return
				case strings.HasPrefix(string(line), "retry:"):
					if open.Add(1) == int64(n) {
						round <- 0
					}
				case strings.HasPrefix(string(line), "data:"):
					if all := got.Add(1); all%int64(n) == 0 {
						round <- all / int64(n)
					}
				}
			}
		})
	}
	for i := range round {
		if i == 0 {
			fmt.Println("open")
			continue
		}
		fmt.Println("round " + strconv.FormatInt(i, 10))
	}
}

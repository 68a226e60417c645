package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU time in /proc/PID/stat: Linux shows 100 a second.
const tick = 10 * time.Millisecond

// cpu is the time that a process has used.
type cpu struct{ user, system time.Duration }

func (c cpu) total() time.Duration { return c.user + c.system }

func (c cpu) since(o cpu) cpu { return cpu{c.user - o.user, c.system - o.system} }

func readCPU(pid int) (cpu, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpu{}, fmt.Errorf("read CPU time: %w", err)
	}
	// The second field is the program's name, in parentheses; utime and
	// stime are the 14th and 15th.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return cpu{}, fmt.Errorf("read CPU time: %q has too few fields", raw)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return cpu{}, fmt.Errorf("read CPU time: %w", err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return cpu{}, fmt.Errorf("read CPU time: %w", err)
	}
	return cpu{time.Duration(user) * tick, time.Duration(system) * tick}, nil
}

// memory is what a process occupies, in bytes: now, and at most so far.
type memory struct{ resident, peak uint64 }

func readMemory(pid int) (m memory, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		name, value, _ := strings.Cut(line, ":")
		var into *uint64
		switch name {
		case "VmRSS":
			into = &m.resident
		case "VmHWM":
			into = &m.peak
		default:
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("read memory: %w", err)
		}
		*into = kib << 10
	}
	return m, nil
}

// traffic is what a proxy's connection carried, in bytes of TCP payload.
type traffic struct{ down, up uint64 }

func (t traffic) since(o traffic) traffic { return traffic{t.down - o.down, t.up - o.up} }

func readTraffic(conn *net.TCPConn) (t traffic, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return t, fmt.Errorf("read traffic: %w", err)
	}
	var info *unix.TCPInfo
	var errInfo error
	err = raw.Control(func(fd uintptr) {
		info, errInfo = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err == nil {
		err = errInfo
	}
	if err != nil {
		return t, fmt.Errorf("read traffic: %w", err)
	}
	return traffic{down: info.Bytes_received, up: info.Bytes_acked}, nil
}

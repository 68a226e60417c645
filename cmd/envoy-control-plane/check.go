package main

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/archive/rollup"
)

var nodeIDPattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?$`)

// check returns every mistake.
func (c *config) check() []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !nodeIDPattern.MatchString(c.nodeID) {
		mistake("--node-id: %q must be 1 to 63 letters, digits, '-', '.' or '_'", c.nodeID)
	}
	if net.ParseIP(c.bind) == nil {
		mistake("--bind: %q is not an IP address", c.bind)
	}
	wrong = append(wrong, c.checkPorts()...)
	wrong = append(wrong, c.checkBackups()...)
	wrong = append(wrong, c.checkMetrics()...)
	if n := len(c.initialMembers); n > 0 && c.bootstrapExpect > n {
		mistake("--bootstrap-expect: %d nodes expected of %d --initial-members", c.bootstrapExpect, n)
	}
	if c.bootstrapExpect > 1 && len(c.join) == 0 {
		mistake("--bootstrap-expect: %d nodes need --join to find each other", c.bootstrapExpect)
	}
	if (c.restore == "") != (c.fromCluster == "") {
		mistake("--restore and --from-cluster go together")
	}
	if c.restore != "" && c.bootstrapExpect == 0 && len(c.initialMembers) == 0 {
		mistake("--restore: the node only joins, a new cluster is not made by it")
	}
	if c.archiveOverflow != "block" && c.archiveOverflow != "gap" {
		mistake("--archive-overflow: %q is neither block nor gap", c.archiveOverflow)
	}
	if c.archiveRetention < 0 {
		mistake("--archive-retention: %s is below 0", c.archiveRetention)
	}
	if c.archiveReplayWindow <= 0 {
		mistake("--archive-replay-window: %s is not above 0", c.archiveReplayWindow)
	}
	if c.staleAfter < 0 {
		mistake("--stale-after: %s is below 0", c.staleAfter)
	}
	if c.finalizeAfter < 0 {
		mistake("--finalize-after: %s is below 0", c.finalizeAfter)
	}
	if c.replaceAfter < 0 {
		mistake("--replace-after: %s is below 0", c.replaceAfter)
	}
	if c.forgetAfter < 0 {
		mistake("--forget-after: %s is below 0", c.forgetAfter)
	}
	if c.proxyGrace < 0 {
		mistake("--proxy-grace: %s is below 0", c.proxyGrace)
	}
	if c.proxyRetention < 0 {
		mistake("--proxy-retention: %s is below 0", c.proxyRetention)
	}
	if c.eventStreams <= 0 {
		mistake("--event-streams: %d is not above 0", c.eventStreams)
	}
	if c.stopTimeout <= 0 {
		mistake("--stop-timeout: %s is not above 0", c.stopTimeout)
	}
	if c.drainTime <= 0 {
		mistake("--drain-time: %s is not above 0", c.drainTime)
	}
	if c.xdsBalance != "on" && c.xdsBalance != "off" {
		mistake("--xds-balance: %q is neither on nor off", c.xdsBalance)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.logLevel) {
		mistake("--log-level: %q is none of debug, info, warn, error", c.logLevel)
	}
	if c.logFormat != "json" && c.logFormat != "text" {
		mistake("--log-format: %q is neither json nor text", c.logFormat)
	}
	if c.databaseURL == "" && c.databaseReadURL != "" {
		mistake("--database-read-url: there is no --database-url")
	}
	if c.jwtSecret == "" && !c.insecure && !c.onLoopback() {
		mistake("--bind: %s is reachable from other hosts and no JWT secret is set; set JWT_SECRET or --jwt-secret-file, or say --insecure", c.bind)
	}
	return wrong
}

func (c *config) checkMetrics() []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if err := rollup.CheckAllow(c.proxyMetrics); err != nil {
		mistake("--proxy-metrics: %w", err)
	}
	if err := rollup.CheckInterval(c.proxyMetricsInterval); err != nil {
		mistake("--proxy-metrics-interval: %w", err)
	}
	if c.proxyMetricsRetention < 0 {
		mistake("--proxy-metrics-retention: %s is below 0", c.proxyMetricsRetention)
	}
	return wrong
}

func (c *config) checkBackups() []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.backupEvery < time.Second {
		mistake("--backup-every: %s is below a second", c.backupEvery)
	}
	if c.backupKeep < 0 {
		mistake("--backup-keep: %d is below 0", c.backupKeep)
	}
	if c.backupKeepFor < 0 {
		mistake("--backup-keep-for: %s is below 0", c.backupKeepFor)
	}
	if c.backupKeep == 0 && c.backupKeepFor > 0 {
		mistake("--backup-keep-for: none is ever removed, by --backup-keep 0")
	}
	return wrong
}

func (c *config) checkPorts() []error {
	var wrong []error
	taken := map[int]string{}
	for _, p := range []struct {
		flag string
		port int
	}{
		{"--http-port", c.httpPort},
		{"--metrics-port", c.metricsPort},
		{"--xds-port", c.xdsPort},
		{"--raft-port", c.raftPort},
		{"--gossip-port", c.gossipPort},
	} {
		if p.port < 1 || p.port > 65535 {
			wrong = append(wrong, fmt.Errorf("%s: %d is not a port", p.flag, p.port))
		}
		if other, ok := taken[p.port]; ok {
			wrong = append(wrong, fmt.Errorf("%s: %d is %s already", p.flag, p.port, other))
		}
		taken[p.port] = p.flag
	}
	return wrong
}

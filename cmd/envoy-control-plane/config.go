package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/cluster/backup"
	"github.com/org/envoy-control-plane/cmd/envoy-control-plane/keyring"
)

// config is everything that a node can be told. Flags win over the
// environment, that over the file of --config.
type config struct {
	nodeID    string
	dataDir   string
	bind      string
	advertise string

	httpPort, metricsPort, xdsPort, raftPort, gossipPort int

	join            []string
	bootstrapExpect int
	initialMembers  []string
	restore         string
	fromCluster     string
	vote            string // true, false or voteInitial
	voter           bool   // read from vote
	zone            string
	staleAfter      time.Duration
	finalizeAfter   time.Duration
	replaceAfter    time.Duration
	forgetAfter     time.Duration

	databaseURL, databaseReadURL string
	archiveOff                   bool // --database-url none
	archiveOverflow              string
	archiveReplayWindow          time.Duration
	archiveRetention             time.Duration

	proxyMetrics          []string
	proxyMetricsInterval  time.Duration
	proxyMetricsRetention time.Duration

	backupTo      string
	backupTarget  backup.Target // read from backupTo, nil without
	backupEvery   time.Duration
	backupKeep    int
	backupKeepFor time.Duration

	proxyGrace, proxyRetention time.Duration

	secretsKeyFile string
	keys           *keyring.Ring // read from secretsKeyFile, nil without

	jwtSecret     string // read from the environment or jwtSecretFile
	jwtSecretFile string
	insecure      bool

	eventStreams int

	stopTimeout time.Duration
	drainTime   time.Duration
	xdsBalance  string // on or off

	logLevel, logFormat string
}

// noDatabase as --database-url takes the archive out of the cluster, so that
// nothing waits for it any more.
const noDatabase = "none"

// voteInitial as --voter has the initial members vote and no other node, so
// that all nodes can be given the same settings.
const voteInitial = "initial"

// setting ties a flag to its environment variable.
type setting struct{ flag, env string }

var settings = []setting{
	{"node-id", "NODE_ID"},
	{"data-dir", "DATA_DIR"},
	{"bind", "BIND_ADDR"},
	{"advertise", "ADVERTISE_ADDR"},
	{"http-port", "SERVER_PORT"},
	{"metrics-port", "METRICS_PORT"},
	{"xds-port", "GRPC_PORT"},
	{"raft-port", "RAFT_PORT"},
	{"gossip-port", "GOSSIP_PORT"},
	{"join", "JOIN"},
	{"bootstrap-expect", "BOOTSTRAP_EXPECT"},
	{"initial-members", "INITIAL_MEMBERS"},
	{"restore", "RESTORE"},
	{"from-cluster", "FROM_CLUSTER"},
	{"voter", "VOTER"},
	{"zone", "ZONE"},
	{"stale-after", "STALE_AFTER"},
	{"finalize-after", "FINALIZE_AFTER"},
	{"replace-after", "REPLACE_AFTER"},
	{"forget-after", "FORGET_AFTER"},
	{"database-url", "DATABASE_URL"},
	{"database-read-url", "DATABASE_READ_URL"},
	{"archive-overflow", "ARCHIVE_OVERFLOW"},
	{"archive-replay-window", "ARCHIVE_REPLAY_WINDOW"},
	{"archive-retention", "ARCHIVE_RETENTION"},
	{"proxy-metrics", "PROXY_METRICS"},
	{"proxy-metrics-interval", "PROXY_METRICS_INTERVAL"},
	{"proxy-metrics-retention", "PROXY_METRICS_RETENTION"},
	{"backup-to", "BACKUP_TO"},
	{"backup-every", "BACKUP_EVERY"},
	{"backup-keep", "BACKUP_KEEP"},
	{"backup-keep-for", "BACKUP_KEEP_FOR"},
	{"proxy-grace", "PROXY_GRACE"},
	{"proxy-retention", "PROXY_RETENTION"},
	{"secrets-key-file", "SECRETS_KEY_FILE"},
	{"jwt-secret-file", "JWT_SECRET_FILE"},
	{"insecure", "INSECURE"},
	{"event-streams", "EVENT_STREAMS"},
	{"stop-timeout", "STOP_TIMEOUT"},
	{"drain-time", "DRAIN_TIME"},
	{"xds-balance", "XDS_BALANCE"},
	{"log-level", "LOG_LEVEL"},
	{"log-format", "LOG_FORMAT"},
}

// register defines the flags of serve with their defaults.
func (c *config) register(flags *pflag.FlagSet) {
	flags.StringVar(&c.nodeID, "node-id", hostname(), "name of this node, stable over restarts")
	flags.StringVar(&c.dataDir, "data-dir", "./data", "folder of the Raft log and snapshots")
	flags.StringVar(&c.bind, "bind", "0.0.0.0", "address to listen on")
	flags.StringVar(&c.advertise, "advertise", "", "DNS name or IP that the other nodes reach (default: --bind when it is one address, else the host name)")
	flags.IntVar(&c.httpPort, "http-port", 8080, "REST port")
	flags.IntVar(&c.metricsPort, "metrics-port", 9090, "Prometheus metrics port")
	flags.IntVar(&c.xdsPort, "xds-port", 18000, "xDS (gRPC) port")
	flags.IntVar(&c.raftPort, "raft-port", 7000, "Raft and node-to-node RPC port")
	flags.IntVar(&c.gossipPort, "gossip-port", 7946, "gossip port, TCP and UDP")
	flags.StringSliceVar(&c.join, "join", nil, "host[:gossip-port] of other nodes, comma-separated; a DNS name may have many addresses")
	flags.IntVar(&c.bootstrapExpect, "bootstrap-expect", -1, "how many nodes found a new cluster (default 1 without --join, else 0: never)")
	flags.StringSliceVar(&c.initialMembers, "initial-members", nil, "node ids that may found a new cluster (default: any)")
	flags.StringVar(&c.restore, "restore", "", "backup that a new cluster goes on from; on one of its initial members, and not looked at once the node belongs to a cluster")
	flags.StringVar(&c.fromCluster, "from-cluster", "", "id of the cluster that the backup of --restore is from")
	flags.StringVar(&c.vote, "voter", "true", "whether this node may vote: true, false, or initial: while it is one of --initial-members")
	flags.Lookup("voter").NoOptDefVal = "true"
	flags.StringVar(&c.zone, "zone", "", "failure domain of this node")
	flags.DurationVar(&c.staleAfter, "stale-after", 30*time.Second, "how long after its start a node without a majority serves proxies the last state on its disk; 0: never")
	flags.DurationVar(&c.finalizeAfter, "finalize-after", 0, "how long all nodes must have supported a higher feature level until it is raised without an operator; 0: never")
	flags.DurationVar(&c.replaceAfter, "replace-after", 5*time.Minute, "how long a voter is silent until another node votes in its place; 0: never")
	flags.DurationVar(&c.forgetAfter, "forget-after", 24*time.Hour, "how long a node without a vote is silent until it is removed from the cluster; 0: never")
	flags.StringVar(&c.databaseURL, "database-url", "", "Postgres of the archive (default: no archive here; none: take the archive out of the cluster)")
	flags.StringVar(&c.databaseReadURL, "database-read-url", "", "Postgres for history and reports (default: --database-url)")
	flags.StringVar(&c.archiveOverflow, "archive-overflow", "block", "when the outbox is full: block writes, or leave a gap in the archive")
	flags.DurationVar(&c.archiveReplayWindow, "archive-replay-window", 15*time.Minute, "how long archived events stay in memory for a database that lost them")
	flags.DurationVar(&c.archiveRetention, "archive-retention", 0, "how long events stay in the archive after the end of their month (0: for ever)")
	flags.StringSliceVar(&c.proxyMetrics, "proxy-metrics", nil, "names of proxies' metrics to keep in the database, comma-separated, * for any characters; none: keep none (default: a list for load, errors, latency and health)")
	flags.DurationVar(&c.proxyMetricsInterval, "proxy-metrics-interval", time.Minute, "what a row of proxies' metrics sums up")
	flags.DurationVar(&c.proxyMetricsRetention, "proxy-metrics-retention", 14*24*time.Hour, "how long proxies' metrics are kept, in whole days; 0: for ever")
	flags.StringVar(&c.backupTo, "backup-to", "", "directory, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true, that the leader puts backups into (default: none are made)")
	flags.DurationVar(&c.backupEvery, "backup-every", time.Hour, "time between two backups")
	flags.IntVar(&c.backupKeep, "backup-keep", 30, "how many backups stay, the newest ones; 0: none is ever removed")
	flags.DurationVar(&c.backupKeepFor, "backup-keep-for", 0, "backups younger than this stay as well")
	flags.DurationVar(&c.proxyGrace, "proxy-grace", 10*time.Second, "how long a proxy without a stream is not yet taken for disconnected")
	flags.DurationVar(&c.proxyRetention, "proxy-retention", 7*24*time.Hour, "how long a disconnected proxy is remembered (0: for ever)")
	flags.StringVar(&c.secretsKeyFile, "secrets-key-file", "", "file with the keys of secrets, 32 bytes in base64 a line; the first encrypts, all decrypt (default: the secrets API refuses)")
	flags.StringVar(&c.jwtSecretFile, "jwt-secret-file", "", "file with the HS256 secret of API tokens (or JWT_SECRET)")
	flags.BoolVar(&c.insecure, "insecure", false, "serve beyond loopback without authentication")
	flags.IntVar(&c.eventStreams, "event-streams", 20_000, "how many streams of events this node serves at a time")
	flags.DurationVar(&c.stopTimeout, "stop-timeout", 25*time.Second, "bound on draining after SIGTERM")
	flags.DurationVar(&c.drainTime, "drain-time", 10*time.Second, "how long a stop takes to hand xDS streams over, at most half of what is left of --stop-timeout")
	flags.StringVar(&c.xdsBalance, "xds-balance", "on", "on: move xDS streams away while this node has more than its share; off: never")
	flags.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&c.logFormat, "log-format", "", "json or text (default: json, text on a terminal)")
	for _, s := range settings {
		f := flags.Lookup(s.flag)
		f.Usage += " [" + s.env + "]"
	}
	flags.String("config", "", "YAML file with the names of these flags")
}

// load completes the flags by the environment and the file, fills what was
// left to defaults and checks all of it. The error names every mistake.
func (c *config) load(flags *pflag.FlagSet, getenv func(string) string) error {
	file, err := readConfigFile(flags)
	if err != nil {
		return err
	}
	var wrong []error
	for _, s := range settings {
		if flags.Changed(s.flag) {
			continue
		}
		value, from := getenv(s.env), s.env
		if value == "" {
			value, from = file[s.flag], "config file: "+s.flag
		}
		if value == "" {
			continue
		}
		if err := flags.Set(s.flag, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", from, err))
		}
	}
	wrong = append(wrong, c.readSecret(getenv)...)
	wrong = append(wrong, c.readKeys()...)
	wrong = append(wrong, c.readBackups()...)
	wrong = append(wrong, c.readVote()...)
	c.fill()
	wrong = append(wrong, c.check()...)
	return errors.Join(wrong...)
}

// readConfigFile returns the file's values as flags take them.
func readConfigFile(flags *pflag.FlagSet) (map[string]string, error) {
	path, _ := flags.GetString("config")
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	out := make(map[string]string, len(values))
	var wrong []error
	for name, value := range values {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.flag == name }) {
			wrong = append(wrong, fmt.Errorf("--config %s: unknown setting %q", path, name))
			continue
		}
		out[name] = flagText(value)
	}
	return out, errors.Join(wrong...)
}

// flagText writes a YAML value the way a flag takes it.
func flagText(value any) string {
	switch v := value.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = flagText(p)
		}
		return strings.Join(parts, ",")
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

// fill sets the defaults that depend on other settings.
func (c *config) fill() {
	if c.advertise == "" {
		c.advertise = hostname()
		if ip := net.ParseIP(c.bind); ip != nil && !ip.IsUnspecified() {
			c.advertise = c.bind
		}
	}
	if c.bootstrapExpect < 0 {
		c.bootstrapExpect = 0
		if len(c.join) == 0 {
			c.bootstrapExpect = 1
		}
	}
	if c.databaseURL == noDatabase {
		c.databaseURL, c.archiveOff = "", true
	}
	if c.databaseReadURL == "" {
		c.databaseReadURL = c.databaseURL
	}
	if c.logFormat == "" {
		c.logFormat = "json"
		if term.IsTerminal(int(os.Stderr.Fd())) {
			c.logFormat = "text"
		}
	}
}

// onLoopback reports whether only this host can reach the node.
func (c *config) onLoopback() bool {
	ip := net.ParseIP(c.bind)
	return ip != nil && ip.IsLoopback()
}

func (c *config) address(port int) string { return net.JoinHostPort(c.bind, strconv.Itoa(port)) }

func (c *config) advertised(port int) string {
	return net.JoinHostPort(c.advertise, strconv.Itoa(port))
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

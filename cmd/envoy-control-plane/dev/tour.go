package dev

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// printTour says what runs where, and what to try.
func (c *cluster) printTour() {
	leader := c.leader()
	c.say("")
	for _, n := range c.nodes {
		role := ""
		if n.ID == leader {
			role = "  leader"
		}
		c.say("  %-10s REST %s  xDS %s  metrics http://127.0.0.1:%d/metrics  pid %d%s",
			n.ID, n.URL(), n.XDS(), n.Ports.Metrics, n.Pid(), role)
	}
	for _, e := range c.envoys {
		c.say("  %-10s %s  admin http://%s  pid %d", filepath.Base(filepath.Dir(e.LogFile())), c.routed(), e.Admin, e.Pid())
	}
	c.say("  %-10s http://%s", "upstream", c.upstream.Addr)
	if c.database != "" {
		c.say("  %-10s %s", "archive", c.database)
	} else {
		c.say("  %-10s none: history is kept in memory", "archive")
	}
	c.say("  %-10s %s", "data, logs", c.Dir)
	if c.postgres != nil && !strings.HasPrefix(c.postgres.Dir, c.Dir) {
		c.say("  %-10s %s", "Postgres", c.postgres.Dir)
	}
	c.say("")
	c.say("Try, in another terminal:")
	c.say("  export ECP_SERVER=%s", c.servers())
	if c.Envoys > 0 {
		c.say("  curl -i %s", c.routed())
	}
	ecpctl := c.relative(c.ecpctl)
	c.say("  %s apply -f deploy/examples/canary.yaml --fleet %s --wait", ecpctl, fleet)
	c.say("  %s proxies", ecpctl)
	c.say("  %s history", ecpctl)
	for _, n := range c.nodes {
		if n.ID == leader && len(c.nodes) > 2 {
			c.say("  kill -9 %d        # the leader; it is started again after %s", n.Pid(), restartWait)
		}
	}
	c.say("")
	c.say("Ctrl-C stops all of it; the data stays.")
}

// relative shortens a path below the present folder.
func (c *cluster) relative(path string) string {
	here, err := filepath.Abs(".")
	if err != nil {
		return path
	}
	if rest, ok := strings.CutPrefix(path, here+string(filepath.Separator)); ok {
		return rest
	}
	return path
}

// leader asks the first node who leads, "" when it does not say.
func (c *cluster) leader() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.nodes[0].URL()+"/api/v1/cluster", http.NoBody)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var answer struct{ Leader string }
	if json.NewDecoder(resp.Body).Decode(&answer) != nil {
		return ""
	}
	return answer.Leader
}

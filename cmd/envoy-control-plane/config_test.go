package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// parse loads a configuration from arguments and an environment.
func parse(t *testing.T, env map[string]string, args ...string) (*config, error) {
	t.Helper()
	c, flags := &config{}, pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.register(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return c, c.load(flags, func(k string) string { return env[k] })
}

func TestEverySettingIsAFlag(t *testing.T) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	(&config{}).register(flags)
	for _, s := range settings {
		if flags.Lookup(s.flag) == nil {
			t.Errorf("no flag --%s for %s", s.flag, s.env)
		}
	}
	n := 0
	flags.VisitAll(func(*pflag.Flag) { n++ })
	if n != len(settings)+1 { // --config has no variable
		t.Errorf("%d flags, %d settings", n, len(settings))
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	text := "node-id: file\nhttp-port: 1111\nxds-port: 2222\nraft-port: 3333\njoin: [a, 'b:7946']\nvoter: false\nstop-timeout: 7s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SERVER_PORT": "4444", "GRPC_PORT": "5555", "BIND_ADDR": "127.0.0.1", "INITIAL_MEMBERS": "x,y"}
	c, err := parse(t, env, "--config", file, "--xds-port", "6666")
	if err != nil {
		t.Fatal(err)
	}
	if c.nodeID != "file" || c.httpPort != 4444 || c.xdsPort != 6666 || c.raftPort != 3333 || c.gossipPort != 7946 {
		t.Errorf("got %+v", c)
	}
	if strings.Join(c.join, " ") != "a b:7946" || strings.Join(c.initialMembers, " ") != "x y" || c.voter || c.stopTimeout != 7*time.Second {
		t.Errorf("got %+v", c)
	}
}

func TestDefaultsThatDependOnOthers(t *testing.T) {
	c, err := parse(t, map[string]string{"DATABASE_URL": "postgres://x/y"}, "--bind", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if c.bootstrapExpect != 1 || c.advertise != "127.0.0.1" || c.databaseReadURL != "postgres://x/y" || c.nodeID != hostname() {
		t.Errorf("got %+v", c)
	}
	c, err = parse(t, map[string]string{"DATABASE_URL": "none"}, "--insecure")
	if err != nil || !c.archiveOff || c.databaseURL != "" || c.databaseReadURL != "" {
		t.Errorf("got %+v, %v", c, err)
	}
	c, err = parse(t, nil, "--insecure", "--join", "seed")
	if err != nil {
		t.Fatal(err)
	}
	if c.bootstrapExpect != 0 || c.advertise != hostname() {
		t.Errorf("got %+v", c)
	}
}

// TestInitialMembersVote: settings that all nodes share decide who votes.
func TestInitialMembersVote(t *testing.T) {
	env := map[string]string{"INSECURE": "true", "JOIN": "cp", "INITIAL_MEMBERS": "cp-0,cp-1,cp-2", "VOTER": "initial"}
	for id, want := range map[string]bool{"cp-0": true, "cp-2": true, "cp-3": false, "cp-20": false} {
		if c, err := parse(t, env, "--node-id", id); err != nil || c.voter != want {
			t.Errorf("%s votes: %v, want %v; %v", id, c.voter, want, err)
		}
	}
	for flag, want := range map[string]bool{"--voter": true, "--voter=false": false, "--voter=1": true} {
		if c, err := parse(t, nil, "--insecure", flag); err != nil || c.voter != want {
			t.Errorf("%s: %v, want %v; %v", flag, c.voter, want, err)
		}
	}
	for _, wrong := range []string{"--voter=maybe", "--voter=initial"} {
		if _, err := parse(t, nil, "--insecure", wrong); err == nil || !strings.Contains(err.Error(), "--voter") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	env := map[string]string{"SERVER_PORT": "eighty", "ARCHIVE_OVERFLOW": "drop"}
	_, err := parse(t, env, "--node-id", "a b", "--bind", "here", "--xds-port", "70000", "--raft-port", "7946",
		"--log-level", "loud", "--log-format", "xml", "--bootstrap-expect", "3", "--initial-members", "a,b",
		"--archive-replay-window", "0s", "--stop-timeout", "-1s", "--stale-after", "-1s", "--replace-after", "-1s", "--forget-after", "-1s", "--drain-time", "0s", "--xds-balance", "maybe", "--event-streams", "0",
		"--proxy-metrics", "a b", "--proxy-metrics-interval", "7s", "--proxy-metrics-retention", "-1s",
		"--jwt-secret-file", "/nowhere", "--database-read-url", "x",
		"--secrets-key-file", "/nowhere/keys", "--proxy-grace", "-1s", "--proxy-retention", "-1s",
		"--backup-to", "s3://b?style=path", "--backup-every", "1ms", "--backup-keep", "-1", "--backup-keep-for", "-1s")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"SERVER_PORT", "--archive-overflow", "--node-id", "--bind", "--xds-port: 70000", "--gossip-port: 7946 is --raft-port",
		"--log-level", "--log-format", "expected of 2 --initial-members", "need --join", "--archive-replay-window", "--stop-timeout", "--stale-after", "--replace-after", "--forget-after", "--drain-time", "--xds-balance", "--event-streams",
		"--proxy-metrics:", "--proxy-metrics-interval", "--proxy-metrics-retention",
		"--jwt-secret-file", "--database-read-url", "--secrets-key-file", "--proxy-grace", "--proxy-retention",
		"--backup-to: bucket \"b\"", "unknown parameter \"style\"", "--backup-every", "--backup-keep: -1", "--backup-keep-for",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s:\n%v", want, err)
		}
	}
}

func TestNoAuthenticationBeyondLoopbackIsRefused(t *testing.T) {
	if _, err := parse(t, nil); err == nil || !strings.Contains(err.Error(), "--insecure") {
		t.Errorf("got %v", err)
	}
	for _, args := range [][]string{{"--insecure"}, {"--bind", "127.0.0.1"}, {"--bind", "::1"}} {
		if _, err := parse(t, nil, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if c, err := parse(t, map[string]string{"JWT_SECRET": "s"}); err != nil || c.jwtSecret != "s" {
		t.Errorf("got %v", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	for text, ok := range map[string]bool{"s3cret\n": true, "\n": false} {
		if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := parse(t, nil, "--jwt-secret-file", secret); (err == nil) != ok || ok && c.jwtSecret != "s3cret" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKeysOfSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	for text, want := range map[string]string{
		base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n": "",
		"c2hvcnQ=\n": "line 1: 5 bytes, not 32", "\n": "no key",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := parse(t, map[string]string{"SECRETS_KEY_FILE": file}, "--insecure")
		switch {
		case want == "" && (err != nil || c.keys == nil):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestConfigFileMistakes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"unknown.yaml": "nodeid: x", "broken.yaml": "a: ["} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, nil, "--config", path); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	if _, err := parse(t, nil, "--config", filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent file passed")
	}
}

func TestBackupSettings(t *testing.T) {
	c, err := parse(t, map[string]string{"BACKUP_TO": "s3://backups/prod"}, "--insecure", "--backup-keep-for", "24h")
	if err != nil || c.backupTarget.String() != "s3://backups/prod/" || c.backupEvery != time.Hour || c.backupKeep != 30 || c.backupKeepFor != 24*time.Hour {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := parse(t, nil, "--insecure"); err != nil || c.backupTarget != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parse(t, nil, "--insecure", "--backup-keep", "0", "--backup-keep-for", "1h"); err == nil || !strings.Contains(err.Error(), "--backup-keep-for") {
		t.Errorf("%v", err)
	}
}

package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FindEnvoy returns an Envoy: ENVOY_BIN, else the newest that
// fetch_envoy.py put into the .tools of the present folder or one above it,
// else the one of the PATH.
func FindEnvoy() (string, error) {
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		if info, err := os.Stat(bin); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return "", fmt.Errorf("ENVOY_BIN=%s is not a program", bin)
		}
		return bin, nil
	}
	if dir, err := os.Getwd(); err == nil {
		for up := ""; dir != up; up, dir = dir, filepath.Dir(dir) {
			if bin, ok := newestEnvoy(filepath.Join(dir, ".tools", "envoy")); ok {
				return bin, nil
			}
		}
	}
	if bin, err := exec.LookPath("envoy"); err == nil {
		return bin, nil
	}
	return "", errors.New("no Envoy: run deploy/local/fetch_envoy.py, put one on the PATH, or set ENVOY_BIN")
}

func newestEnvoy(dir string) (string, bool) {
	found, _ := filepath.Glob(filepath.Join(dir, "*", "envoy")) // fails only for a malformed pattern
	if len(found) == 0 {
		return "", false
	}
	return slices.MaxFunc(found, func(a, b string) int {
		return slices.Compare(numbers(filepath.Base(filepath.Dir(a))), numbers(filepath.Base(filepath.Dir(b))))
	}), true
}

// numbers are those of a version, "1.40.0"; what is no number counts as -1.
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			n = -1
		}
		out = append(out, n)
	}
	return out
}

// EnvoyOptions say how an Envoy runs.
type EnvoyOptions struct {
	// Bin is the program; empty: what FindEnvoy finds.
	Bin string
	// Bootstrap is its configuration, YAML or JSON.
	Bootstrap []byte
	// Dir gets the bootstrap, the log and the admin address. It must exist.
	Dir string
	// LogLevel is Envoy's, "info" when empty; ComponentLogLevel refines it
	// ("upstream:debug").
	LogLevel, ComponentLogLevel string
	// BaseID makes hot restarts between Envoys of one id possible; 0: none.
	BaseID int
	// Concurrency is the number of workers; 0 means 1.
	Concurrency int
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	// Admin is the host and port of its admin interface.
	Admin string
}

const envoyStart = 30 * time.Second

// StartEnvoy starts an Envoy and returns when its admin interface answers,
// which is before it has been configured. It ends with Stop, or with this
// process.
func StartEnvoy(ctx context.Context, o EnvoyOptions) (*Envoy, error) {
	var err error
	if o.Bin == "" {
		if o.Bin, err = FindEnvoy(); err != nil {
			return nil, err
		}
	}
	bootstrap, admin := filepath.Join(o.Dir, "bootstrap.yaml"), filepath.Join(o.Dir, "admin_address")
	if err := os.WriteFile(bootstrap, o.Bootstrap, 0o600); err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	if err := os.Remove(admin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	e := &Envoy{}
	e.Process, err = startProcess(command{
		path: o.Bin, args: envoyArgs(o, bootstrap, admin), dir: o.Dir,
		stop: "TERM", log: filepath.Join(o.Dir, "envoy.log"),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, envoyStart)
	defer cancel()
	err = e.until(ctx, func(ctx context.Context) bool {
		address, err := os.ReadFile(admin)
		e.Admin = string(address)
		return err == nil && e.live(ctx)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start envoy: %w", err), e.Stop(ctx))
	}
	return e, nil
}

func envoyArgs(o EnvoyOptions, bootstrap, admin string) []string {
	args := []string{
		"--config-path", bootstrap, "--admin-address-path", admin,
		"--concurrency", strconv.Itoa(max(1, o.Concurrency)),
		"--log-level", cmp.Or(o.LogLevel, "info"), "--drain-time-s", "1", "--parent-shutdown-time-s", "2",
	}
	if o.ComponentLogLevel != "" {
		args = append(args, "--component-log-level", o.ComponentLogLevel)
	}
	if o.BaseID != 0 {
		return append(args, "--base-id", strconv.Itoa(o.BaseID))
	}
	return append(args, "--disable-hot-restart")
}

// live asks the admin interface for anything at all.
func (e *Envoy) live(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Admin+"/server_info", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

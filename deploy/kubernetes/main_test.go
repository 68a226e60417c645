//go:build deploy

package kubernetes

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// The cluster that all tests share, each with a namespace of its own.
var (
	server *api
	node   *kubelet
	tools  programs
)

func TestMain(m *testing.M) {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// They wait, for controllers, more than they work.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	code := local.RunTests(m, func(setup context.Context, dir string) (err error) {
		if server, err = startServer(setup, dir); err != nil {
			return err
		}
		node = &kubelet{api: server}
		if err := node.join(setup); err != nil {
			return err
		}
		go node.run(ctx)
		return prepareServer(setup)
	})
	cancel()
	os.Exit(code)
}

// build has make build what is not there yet, which takes minutes once.
func build() error {
	paths, err := local.Make(context.Background(), "kubernetes", "helm")
	if err != nil {
		return err
	}
	if len(paths) != 3 {
		return fmt.Errorf("make says %q", paths)
	}
	tools.kubernetes, tools.operator, tools.helm = paths[0], paths[1], paths[2]
	return nil
}

// prepareServer adds the operator's kinds, and waits until the controllers work.
func prepareServer(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(tools.operator, "*.yaml"))
	if err != nil || len(files) != 2 {
		return fmt.Errorf("definitions of the Prometheus operator: %v, %w", files, err)
	}
	for _, file := range files {
		// They are too big for the annotation of a plain apply.
		if out, err := command(ctx, "kubectl", "apply", "--server-side", "-f", file).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	class := map[string]any{
		"metadata":    map[string]any{"name": "grows", "annotations": map[string]any{"storageclass.kubernetes.io/is-default-class": "true"}},
		"provisioner": "tests/none", "allowVolumeExpansion": true,
	}
	if err := server.do(ctx, request{method: http.MethodPost, path: "/apis/storage.k8s.io/v1/storageclasses", body: class}, nil); err != nil {
		return err
	}
	for _, wait := range [][]string{
		{"wait", "--for=create", "serviceaccount/default", "--timeout=60s"},
		{"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"},
	} {
		if out, err := command(ctx, "kubectl", wait...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// eventually is a wait of a test on the controllers.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	local.Eventually(t, 90*time.Second, what, f)
}

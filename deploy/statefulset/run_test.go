package statefulset

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/local"
)

// secretText stands for what nobody renders: the secret that operators make.
const secretText = `
---
apiVersion: v1
kind: Secret
metadata: {name: envoy-control-secrets, namespace: envoy-control}
stringData: {JWT_SECRET: ` + jwtSecret + `}
`

const jwtSecret = "the-driver's-own-secret-of-more-than-32-bytes"

// rendered returns the manifests, as kubectl gets them.
func rendered(t *testing.T) *objects {
	t.Helper()
	files, err := filepath.Glob("../k8s/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n---\n" + string(text))
	}
	o, err := parse([]byte(all.String() + secretText))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// runSet runs a set until the test ends; its logs and trace stay when the test
// has failed. The DNS keeps answers for ttl.
func runSet(t *testing.T, o *objects, ttl time.Duration) *set {
	t.Helper()
	dir, err := os.MkdirTemp("", "ecp-statefulset-") //nolint:usetesting // it may stay
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := readImage("../../Dockerfile", os.Getenv(binEnv))
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(o, image, dir, hub, history.NewTrace())
	dns, err := startResolver(s.resolve, ttl)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		dns.close()
		if err := s.trace.Save(filepath.Join(dir, "trace.log")); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("trace and logs are in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// rolledOut waits until the set is as it is wanted.
func (s *set) rolledOut(t *testing.T, within time.Duration) {
	t.Helper()
	local.Eventually(t, within, "the set is rolled out", s.done)
}

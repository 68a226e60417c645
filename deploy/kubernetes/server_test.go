//go:build deploy

package kubernetes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// controllers are those that act on what the chart makes. Others want machines
// that beat, volumes, a cloud.
const controllers = "statefulset-controller,disruption-controller,horizontal-pod-autoscaler-controller,job-controller," +
	"serviceaccount-controller,endpointslice-controller,garbage-collector-controller,namespace-controller," +
	"persistentvolumeclaim-protection-controller"

// startServer starts etcd, the API server and the controllers on loopback; they
// end with this process.
func startServer(ctx context.Context, dir string) (*api, error) {
	etcd, err := local.FindDebian(ctx, "etcd", "etcd-server")
	if err != nil {
		return nil, err
	}
	ports, err := local.FreePorts(3)
	if err != nil {
		return nil, err
	}
	if _, err := local.StartEtcd(local.EtcdOptions{
		Bin: etcd, ID: "one", Dir: filepath.Join(dir, "etcd"), Client: ports[0], Peer: ports[1],
		Members: []string{local.EtcdMember("one", ports[1])},
	}); err != nil {
		return nil, err
	}

	token := rand.Text()
	tokens, key, certs := filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "accounts.pem"), filepath.Join(dir, "certificates")
	if err := errors.Join(os.WriteFile(tokens, []byte(token+",tests,tests,system:masters\n"), 0o600), writeKey(key)); err != nil {
		return nil, err
	}
	a := &api{url: fmt.Sprintf("https://127.0.0.1:%d", ports[2]), token: token, authority: filepath.Join(certs, "apiserver.crt")}
	if _, err := local.StartProgram(ctx, local.ProgramOptions{
		Path: filepath.Join(tools.kubernetes, "kube-apiserver"), Dir: dir, Ready: a.ready,
		Args: []string{
			"--etcd-servers=http://" + local.Loopback(ports[0]),
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
			fmt.Sprintf("--secure-port=%d", ports[2]), "--cert-dir=" + certs,
			"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--token-auth-file=" + tokens,
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
			"--allow-privileged", // pod security has to refuse, not this
		},
	}); err != nil {
		return nil, err
	}

	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, a.kubeconfig(), 0o600); err != nil {
		return nil, err
	}
	tools.environment = []string{
		"PATH=" + tools.kubernetes + ":" + filepath.Dir(tools.helm) + ":" + os.Getenv("PATH"),
		"KUBECONFIG=" + config, "HOME=" + dir, "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=", "XDG_DATA_HOME=",
	}
	_, err = local.StartProgram(ctx, local.ProgramOptions{
		Path: filepath.Join(tools.kubernetes, "kube-controller-manager"), Dir: dir,
		Args: []string{
			"--kubeconfig=" + config, "--secure-port=0", "--leader-elect=false", "--controllers=" + controllers,
			"--horizontal-pod-autoscaler-sync-period=1s",
		},
	})
	return a, err
}

// writeKey makes the key that signs the tokens of service accounts.
func writeKey(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// ready is a local.ProgramOptions.Ready. The server makes its certificate when
// it starts.
func (a *api) ready(ctx context.Context) bool {
	if a.http == nil {
		authority, err := os.ReadFile(a.authority)
		if err != nil {
			return false
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authority) {
			return false
		}
		a.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	}
	return a.do(ctx, request{method: http.MethodGet, path: "/readyz"}, nil) == nil
}

func (a *api) kubeconfig() []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: tests
contexts: [{name: tests, context: {cluster: tests, user: tests}}]
clusters: [{name: tests, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: tests, user: {token: %q}}]
`, a.url, a.authority, a.token)
}

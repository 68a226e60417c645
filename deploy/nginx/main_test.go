// Package nginx_test has Debian's nginx run nginx.conf in front of real nodes.
package nginx_test

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
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

const serverName = "api.envoy-control.example.com"

// Where the programs under test are.
var nodeBinary, nginx string

func TestMain(m *testing.M) {
	os.Exit(local.RunTests(m, func(ctx context.Context, dir string) (err error) {
		nginx, err = local.FindDebian(ctx, "nginx", "nginx-light")
		nodeBinary = filepath.Join(dir, "envoy-control-plane")
		return errors.Join(err, local.Build(dir, "../../cmd/envoy-control-plane"))
	}))
}

// front is a running nginx.
type front struct {
	plain, secure, xds string // host:port
	roots              *x509.CertPool
}

// startFront runs nginx.conf, its names and ports exchanged for those of a
// cluster on loopback, and changed by edit last.
func startFront(t *testing.T, c *local.Cluster, edit func(string) string) *front {
	t.Helper()
	ports, err := local.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &front{plain: local.Loopback(ports[0]), secure: local.Loopback(ports[1]), xds: local.Loopback(ports[2])}
	f.roots = makeCertificate(t, dir)
	raw, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	replaced := []string{
		"listen 80;", "listen " + f.plain + ";", "listen 443 ", "listen " + f.secure + " ", "listen 18000 ", "listen " + f.xds + " ",
		"/etc/nginx/ssl", dir, "/tmp/", dir + "/", "/dev/stdout", dir + "/access.log", "error_log stderr", "error_log " + dir + "/error.log",
	}
	for i, o := range c.Options {
		name := fmt.Sprintf("api-%d", i+1)
		replaced = append(replaced, name+":8080", local.Loopback(o.Ports.HTTP), name+":18000", local.Loopback(o.Ports.XDS))
	}
	text := string(raw)
	for i := 0; i < len(replaced); i += 2 {
		if !strings.Contains(text, replaced[i]) {
			t.Fatalf("nginx.conf does not have %q", replaced[i])
		}
	}
	text = strings.NewReplacer(replaced...).Replace(text)
	if edit != nil {
		text = edit(text)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), nginx, "-t", "-p", dir, "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("nginx -t: %v\n%s", err, out)
	}
	p, err := local.StartProgram(t.Context(), local.ProgramOptions{
		Path: nginx, Dir: dir, Args: []string{"-p", dir, "-c", file, "-g", "daemon off;"},
		Ready: local.Answers("http://" + f.plain + "/nginx-health"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Stop(ctx) // killed else
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx says:\n%s", log)
		}
	})
	return f
}

// makeCertificate puts tls.crt and tls.key into a folder that nginx's workers reach.
func makeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serverName}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "tls.crt"), certPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return roots
}

// client speaks to the front by its name, whatever its address.
func (f *front) client() *http.Client {
	return &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: f.roots},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				to := f.secure
				if strings.HasSuffix(address, ":80") {
					to = f.plain
				}
				return (&net.Dialer{}).DialContext(ctx, network, to)
			},
		},
	}
}

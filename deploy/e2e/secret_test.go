package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// certificate writes a self-signed one and its key into files, and returns
// their paths and a piece of the key.
func certificate(t *testing.T, name string) (cert, key, piece string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for path, b := range map[string][]byte{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: text} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, strings.Split(string(text), "\n")[1]
}

// tlsListener takes its certificate from the secret "edge-tls".
const tlsListener = `
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: tls
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
enable_reuse_port: true
filter_chains:
  - transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
        common_tls_context:
          tls_certificate_sds_secret_configs:
            - {name: edge-tls, sds_config: {ads: {}, resource_api_version: V3}}
    filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: tls
          route_config: {name: none, virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 204}}]}]}
          http_filters:
            - name: envoy.filters.http.router
              typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// shows returns nil when a handshake shows a certificate of a name.
func shows(port int, name string) error {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
		return fmt.Errorf("the certificate is that of %s", got)
	}
	return nil
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys")
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	if err := os.WriteFile(keys, []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	database := local.TestDatabase(t)
	c := startCluster(t, 3, database, "--secrets-key-file", keys)
	ports := freePorts(t, 3)
	fleets := []string{"delta", "sotw", "late"}
	for i, fleet := range fleets {
		out := c.ecpctl(0, fmt.Sprintf(tlsListener, ports[i]), "apply", "-f", "-", "--fleet", fleet)
		if !strings.Contains(out, `has no secret "edge-tls"`) {
			t.Errorf("no warning:\n%s", out)
		}
	}
	start := func(i int) {
		c.startEnvoy(bootstrap.Options{Proxy: fleets[i], Fleet: fleets[i], SotW: fleets[i] == "sotw"})
	}
	start(0)
	start(1)
	cert, private, piece := certificate(t, "first")
	c.ecpctl(0, "", "secrets", "put", "edge-tls", "--cert", cert, "--key", private)
	for i := range 2 {
		eventually(t, 20*time.Second, "the first certificate", func() error { return shows(ports[i], "first") })
	}

	pushes := func() (sum float64) {
		for i := range c.nodes {
			sum += c.metric(i, `ecp_xds_pushes_total{type="listener"}`)
		}
		return sum
	}
	listeners := pushes()
	cert, private, piece2 := certificate(t, "second")
	c.ecpctl(0, "", "secrets", "put", "edge-tls", "--cert", cert, "--key", private)
	for i := range 2 {
		eventually(t, 10*time.Second, "the second certificate", func() error { return shows(ports[i], "second") })
	}
	if now := pushes(); now != listeners {
		t.Errorf("a rotation sent listeners: %v, then %v pushes", listeners, now)
	}

	for _, n := range c.nodes {
		n.Kill()
	}
	c.start()
	start(2)
	eventually(t, 20*time.Second, "the secret after a restart", func() error { return shows(ports[2], "second") })

	out := c.ecpctl(0, "", "secrets", "get", "edge-tls")
	if !strings.Contains(out, "CN=second") || strings.Contains(out, piece2) {
		t.Errorf("shown:\n%s", out)
	}
	for _, p := range []string{piece, piece2} {
		c.nowhere(p)
		nowhereIn(t, database, p)
	}
}

// nowhere fails when a text is in any file of the nodes.
func (c *cluster) nowhere(text string) {
	c.t.Helper()
	for _, o := range c.options {
		err := filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(text)) {
				c.t.Errorf("a private key is in %s", path)
			}
			return err
		})
		if err != nil {
			c.t.Error(err)
		}
	}
}

// nowhereIn fails when a text is in any row of a database.
func nowhereIn(t *testing.T, database, text string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(t.Context()) }()
	rows, err := db.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		var found int
		query := `SELECT count(*) FROM ` + pgx.Identifier{table}.Sanitize() + ` r WHERE r::text LIKE '%' || $1 || '%'`
		if err := db.QueryRow(t.Context(), query, text).Scan(&found); err != nil || found > 0 {
			t.Errorf("table %s has a private key in %d rows: %v", table, found, err)
		}
	}
}

func TestSecretsNeedAKey(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	if out := c.ecpctl(1, "", "secrets", "list"); !strings.Contains(out, "secrets_disabled") {
		t.Errorf("printed:\n%s", out)
	}
}

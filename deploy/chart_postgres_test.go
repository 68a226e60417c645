package deploy_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/org/envoy-control-plane/deploy/local"
)

// TestChartPostgresScripts runs the scripts of the bundled Postgres against a
// real one: the nodes' role can make the archive, and a replica gets a copy.
func TestChartPostgresScripts(t *testing.T) {
	p, err := local.StartPostgres(t.Context(), local.PostgresOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	superuser, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := superuser.User.Password()
	const archive, replication = `ar'ch"ive $1`, "rep'li cation"
	data := filepath.Join(p.Dir, "data")

	script := func(name string, env ...string) {
		t.Helper()
		text := only[corev1.ConfigMap](t, render(t, "helm/cases/everything.yaml"), "ConfigMap/envoy-control-postgresql-scripts").Data[name]
		cmd := exec.Command("sh", "-c", text)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PGPORT=" + strconv.Itoa(p.Port)}, env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	script("roles.sh", "PGHOST=127.0.0.1", "PGPASSWORD="+password, "PGDATA="+data,
		"POSTGRES_DB=ecp", "ARCHIVE_PASSWORD="+archive, "REPLICATION_PASSWORD="+replication)
	if hba, err := os.ReadFile(filepath.Join(data, "pg_hba.conf")); err != nil || !strings.Contains(string(hba), "\nhost replication replicator all scram-sha-256\n") {
		t.Errorf("replicas from other hosts are not let in: %v\n%s", err, hba)
	}

	migrate := exec.Command(binary(t), "migrate", "--database-url", "postgres://envoy_control@127.0.0.1:"+strconv.Itoa(p.Port)+"/ecp?sslmode=disable")
	migrate.Env = []string{"PGPASSWORD=" + archive}
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Errorf("the nodes' role cannot make the archive: %v\n%s", err, out)
	}

	// The first copy was broken off before.
	replica := filepath.Join(t.TempDir(), "pgdata")
	if err := os.MkdirAll(replica+".copy/base", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		script("replica.sh", "PGDATA="+replica, "PRIMARY=127.0.0.1", "PGPASSWORD="+replication)
	}
	if _, err := os.Stat(filepath.Join(replica, "standby.signal")); err != nil {
		t.Errorf("the copy is no replica: %v", err)
	}
	if conf, err := os.ReadFile(filepath.Join(replica, "postgresql.auto.conf")); err != nil || !strings.Contains(string(conf), "user=replicator") {
		t.Errorf("the copy does not know its primary: %v\n%s", err, conf)
	}
}

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions say where and how a Postgres runs.
type PostgresOptions struct {
	// Dir keeps the data, which survives a restart, the log and the password.
	// Empty: a temporary folder that Stop removes.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// NoSync gives up durability for speed. For tests.
	NoSync bool
	// Follow is the URL of a server whose data Dir has a copy of: this one is
	// its standby until Promote. Empty: a server of its own.
	Follow string
	// Settings of the server, in addition.
	Settings map[string]string
}

// Postgres is a running server.
type Postgres struct {
	*Process
	// URL of its database "ecp", for its superuser.
	URL string
	// Dir is where its data is: not Options.Dir when the user that runs it
	// could not reach that.
	Dir       string
	Port      int
	temporary bool
}

const (
	postgresStart = 30 * time.Second
	superuser     = "postgres"
	database      = "ecp"
)

// FetchPostgres makes sure that StartPostgres needs no network but loopback.
func FetchPostgres(ctx context.Context) error {
	as, err := postgresUser()
	if err != nil {
		return err
	}
	_, err = findPostgres(ctx, as)
	return err
}

// StartPostgres starts a server on loopback and returns when it answers. As
// root it runs as another user. It ends with Stop, or with this process.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	as, err := postgresUser()
	if err != nil {
		return nil, err
	}
	bin, err := findPostgres(ctx, as)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	dir, err := postgresDir(o.Dir, as)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	p, err := runPostgres(ctx, bin, dir, as, o)
	if err != nil {
		if o.Dir == "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return p, nil
}

func runPostgres(ctx context.Context, bin, dir string, as *syscall.Credential, o PostgresOptions) (*Postgres, error) {
	password, err := initPostgres(ctx, bin, dir, as)
	if err != nil {
		return nil, err
	}
	if o.Follow != "" {
		if err := beStandby(filepath.Join(dir, "data"), as); err != nil {
			return nil, err
		}
	}
	p := &Postgres{Dir: dir, Port: o.Port, temporary: o.Dir == ""}
	if p.Port == 0 {
		ports, err := FreePorts(1)
		if err != nil {
			return nil, err
		}
		p.Port = ports[0]
	}
	cmd := command{
		path: filepath.Join(bin, "postgres"), args: postgresArgs(p, o), dir: dir,
		user: as, stop: "INT", log: filepath.Join(dir, "postgres.log"),
	}
	if p.temporary {
		cmd.remove = dir
	}
	if p.Process, err = startProcess(cmd); err != nil {
		return nil, err
	}
	p.URL = postgresURL(password, p.Port, database)
	admin := postgresURL(password, p.Port, "postgres")
	err = p.until(ctx, func(ctx context.Context) bool { return ping(ctx, admin) })
	if err == nil {
		err = createDatabase(ctx, admin, database)
	}
	if err != nil {
		return nil, errors.Join(err, p.Process.Stop(ctx))
	}
	return p, nil
}

// Stop ends the server: open transactions are rolled back. A temporary folder
// is removed.
func (p *Postgres) Stop(ctx context.Context) error {
	err := p.Process.Stop(ctx)
	if p.temporary {
		err = errors.Join(err, os.RemoveAll(p.Dir))
	}
	return err
}

func postgresArgs(p *Postgres, o PostgresOptions) []string {
	set := map[string]string{
		"listen_addresses": "127.0.0.1", "port": strconv.Itoa(p.Port),
		"unix_socket_directories": "", "max_connections": "200",
	}
	if o.NoSync {
		for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			set[name] = "off"
		}
	}
	if o.Follow != "" {
		set["primary_conninfo"] = o.Follow
	}
	for name, value := range o.Settings {
		set[name] = value
	}
	args := []string{"-D", filepath.Join(p.Dir, "data")}
	for name, value := range set {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// postgresDir makes the folder, where the user reaches it, and gives it to him.
func postgresDir(dir string, as *syscall.Credential) (string, error) {
	var err error
	switch {
	case dir == "":
		dir, err = os.MkdirTemp(reachableTemp(as), "ecp-postgres-")
	case !reachable(dir, as):
		dir, err = standIn(dir, as)
	}
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, own(dir, as)
}

// standIn is the folder in place of one that the user cannot reach: always
// the same for the same one, and nobody else's.
func standIn(dir string, as *syscall.Credential) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(abs)) // never fails
	dir = filepath.Join(reachableTemp(as), fmt.Sprintf("ecp-postgres-%x", h.Sum64()))
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, os.ErrExist) {
		return dir, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || stat.Uid != as.Uid {
		return "", fmt.Errorf("%s, which stands in for %s, belongs to somebody else", dir, abs)
	}
	return dir, nil
}

func reachableTemp(as *syscall.Credential) string {
	if dir := os.TempDir(); reachable(dir, as) {
		return dir
	}
	return "/tmp"
}

// initPostgres makes the data folder unless there is one, and returns the
// superuser's password.
func initPostgres(ctx context.Context, bin, dir string, as *syscall.Credential) (string, error) {
	data, passwordFile := filepath.Join(dir, "data"), filepath.Join(dir, "password")
	if made, err := os.ReadFile(filepath.Join(data, "PG_VERSION")); err == nil {
		major, err := postgresMajor(ctx, bin)
		if err != nil {
			return "", err
		}
		if was := strings.TrimSpace(string(made)); was != major {
			return "", fmt.Errorf("%s is of Postgres %s, %s is Postgres %s: remove the folder, or put that version on the PATH", data, was, bin, major)
		}
		password, err := os.ReadFile(passwordFile)
		return string(password), err
	}
	password := rand.Text()
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return "", err
	}
	if err := own(passwordFile, as); err != nil {
		return "", err
	}
	// Made aside: a folder that has a PG_VERSION is whole.
	aside := filepath.Join(dir, "data.new")
	if err := os.RemoveAll(aside); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata="+aside, "--username="+superuser,
		"--pwfile="+passwordFile, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w:\n%s", err, out)
	}
	return password, os.Rename(aside, data)
}

func postgresURL(password string, port int, db string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: db, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func ping(ctx context.Context, target string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// createDatabase makes a database unless it exists.
func createDatabase(ctx context.Context, admin, name string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return err
}

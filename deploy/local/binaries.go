package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchedVersion is the Postgres that is fetched where none is installed.
const fetchedVersion = embeddedpostgres.V17

// findPostgres returns the folder with initdb and postgres: the one of the
// PATH, else the newest of the distribution's, else a fetched one.
func findPostgres(ctx context.Context, as *syscall.Credential) (string, error) {
	if bin, ok := installedPostgres(); ok {
		return bin, nil
	}
	return fetchPostgres(ctx, as)
}

func installedPostgres() (string, bool) {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		// Distributions put links to single programs on the PATH.
		if path, err = filepath.EvalSymlinks(path); err == nil && hasPostgres(filepath.Dir(path)) {
			return filepath.Dir(path), true
		}
	}
	var best string
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	for _, dir := range found {
		if hasPostgres(dir) && (best == "" || versionOf(dir) > versionOf(best)) {
			best = dir
		}
	}
	return best, best != ""
}

func hasPostgres(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(bin, name)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// versionOf is the major version in /usr/lib/postgresql/<major>/bin.
func versionOf(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresMajor asks the binary for its major version.
func postgresMajor(ctx context.Context, bin string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask postgres for its version: %w", err)
	}
	m := majorVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask postgres for its version: it says %q", out)
	}
	return string(m[1]), nil
}

// fetchPostgres unpacks the binaries of the embedded module into the first
// cache folder that the user reaches, once.
func fetchPostgres(ctx context.Context, as *syscall.Credential) (string, error) {
	scratch, home, err := fetchDir(as)
	if err != nil {
		return "", fmt.Errorf("fetch postgres: %w", err)
	}
	bin := filepath.Join(home, "bin")
	if scratch == "" {
		return bin, nil
	}
	defer os.RemoveAll(scratch)
	unpacked, err := unpackPostgres(ctx, scratch)
	if err != nil {
		return "", fmt.Errorf("fetch postgres %s: %w", fetchedVersion, err)
	}
	// Another process may have been faster: its copy is as good.
	if err := os.Rename(unpacked, home); err != nil && !hasPostgres(bin) {
		return "", fmt.Errorf("fetch postgres: %w", err)
	}
	return bin, nil
}

func unpackPostgres(ctx context.Context, scratch string) (string, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return "", err
	}
	home := filepath.Join(scratch, "home")
	log, err := os.Create(filepath.Join(scratch, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	// The module has no call that only fetches, and its servers run as the
	// present user, who may be root. Asked for an encoding that does not
	// exist, it ends between unpacking and starting.
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(fetchedVersion).Port(uint32(ports[0])).Encoding("none").Logger(log).
		CachePath(filepath.Join(scratch, "download")).
		RuntimePath(filepath.Join(scratch, "runtime")).BinariesPath(home))
	done := make(chan error, 1)
	go func() { done <- server.Start() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err == nil {
		return "", errors.Join(errors.New("started a server that was not to start"), server.Stop())
	}
	if !hasPostgres(filepath.Join(home, "bin")) {
		return "", err
	}
	return home, openUp(home)
}

// openUp lets every user read and run what is below a folder.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// fetchDir returns where fetched binaries are or belong: below the checkout's
// .tools, else in a cache of the user or the machine. Scratch is a new folder
// beside it, empty when the binaries are there.
func fetchDir(as *syscall.Credential) (scratch, home string, err error) {
	var dirs []string
	if root, ok := checkout(); ok {
		dirs = append(dirs, filepath.Join(root, ".tools"))
	}
	if dir, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(dir, "envoy-control-plane"))
	}
	dirs = append(dirs, "/var/cache/envoy-control-plane", filepath.Join(os.TempDir(), "envoy-control-plane"))
	var failed []error
	for _, dir := range dirs {
		if !reachable(dir, as) {
			continue
		}
		home := filepath.Join(dir, "postgres", string(fetchedVersion))
		if hasPostgres(filepath.Join(home, "bin")) {
			return "", home, nil
		}
		scratch, err := makeScratch(filepath.Dir(home))
		if err == nil {
			return scratch, home, nil
		}
		failed = append(failed, err)
	}
	return "", "", errors.Join(failed...)
}

func makeScratch(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, ".fetch-")
}

// checkout is the closest folder upwards that has a go.mod or a .tools.
func checkout() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		for _, mark := range []string{"go.mod", ".tools"} {
			if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
				return dir, true
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

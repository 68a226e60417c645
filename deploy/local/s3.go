package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Credentials of every S3.
const (
	S3AccessKey = "ecp"
	S3SecretKey = "ecp-secret"
)

// S3Env is an environment that has the credentials.
func S3Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + S3AccessKey, "AWS_SECRET_ACCESS_KEY=" + S3SecretKey}
}

// S3 is a running S3 server on loopback, whose buckets are folders.
type S3 struct {
	*Process
	// Endpoint is its URL.
	Endpoint string
	Port     int
	// Dir has the buckets below "buckets".
	Dir string
}

// FetchS3 returns the program of the S3 server, which `make s3` builds once.
func FetchS3(ctx context.Context) (string, error) {
	paths, err := Make(ctx, "s3")
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// StartS3 starts a server, with the buckets that an earlier one left in the
// folder, and returns when it answers. It ends with Stop, or with this process.
func StartS3(ctx context.Context, dir string, port int) (*S3, error) {
	bin, err := FetchS3(ctx)
	if err != nil {
		return nil, err
	}
	s := &S3{Endpoint: "http://" + Loopback(port), Port: port, Dir: dir}
	buckets, meta := filepath.Join(dir, "buckets"), filepath.Join(dir, "meta")
	if err := errors.Join(os.MkdirAll(buckets, 0o755), os.MkdirAll(meta, 0o755)); err != nil {
		return nil, fmt.Errorf("start s3: %w", err)
	}
	s.Process, err = startProcess(command{
		path: bin, stop: "TERM", log: filepath.Join(dir, "log"),
		args: []string{
			"--access", S3AccessKey, "--secret", S3SecretKey, "--port", Loopback(port), "--quiet",
			"posix", "--sidecar", meta, buckets,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start s3: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := s.until(ctx, s.answers); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start s3: %w", err)
	}
	return s, nil
}

// answers reports whether the server refuses whom it does not know.
func (s *S3) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusForbidden
}

// MakeBucket makes a bucket, which is a folder.
func (s *S3) MakeBucket(name string) error {
	return os.Mkdir(filepath.Join(s.Dir, "buckets", name), 0o755)
}

// URL is a bucket, or a folder in one, as --backup-to takes it.
func (s *S3) URL(path string) string {
	return "s3://" + path + "?" + url.Values{"endpoint": {s.Endpoint}, "region": {"us-east-1"}, "path-style": {"true"}}.Encode()
}

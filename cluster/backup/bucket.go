package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	// partBytes is the size of the parts of a larger upload. One is in memory.
	partBytes = 16 << 20
	// tries is how often a request is sent; a whole backup is tried again, too.
	tries = 3
	// askLimit bounds a question to a metadata service for credentials.
	askLimit = 5 * time.Second
	// publicEndpoint is used where none is given.
	publicEndpoint = "https://s3.amazonaws.com"
)

// bucket is a Target in S3-compatible storage. An upload is seen by others once
// it is completed.
type bucket struct {
	client *minio.Client
	bucket string
	// prefix is empty or ends with a slash.
	prefix string
}

// parseBucket takes s3://bucket/prefix with its parameters. Credentials, and
// what the URL leaves out, come from where AWS' own tools look for them.
func parseBucket(u *url.URL) (*bucket, error) {
	return newBucket(u, credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: askLimit}},
	}))
}

func newBucket(u *url.URL, creds *credentials.Credentials) (*bucket, error) {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if u.User != nil {
		mistake("credentials do not belong into the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if err := s3utils.CheckValidBucketName(u.Host); err != nil {
		mistake("bucket %q: %w", u.Host, err)
	}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		mistake("the parameters cannot be read: %w", err)
	}
	for name := range params {
		if name != "endpoint" && name != "region" && name != "path-style" {
			mistake("unknown parameter %q; there are endpoint, region and path-style", name)
		}
	}
	o := &minio.Options{
		Creds: creds, MaxRetries: tries,
		Region: cmp.Or(params.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
	}
	if text := params.Get("path-style"); text != "" {
		pathStyle, err := strconv.ParseBool(text)
		if err != nil {
			mistake("path-style: %q is neither true nor false", text)
		} else if pathStyle {
			o.BucketLookup = minio.BucketLookupPath
		} else {
			o.BucketLookup = minio.BucketLookupDNS
		}
	}
	text := cmp.Or(params.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), publicEndpoint)
	endpoint, err := url.Parse(text)
	if err != nil || (endpoint.Scheme != "http" && endpoint.Scheme != "https") || endpoint.Host == "" || strings.Trim(endpoint.Path, "/") != "" {
		mistake("endpoint: %q is not http[s]://HOST[:PORT]", text)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	o.Secure = endpoint.Scheme == "https"
	client, err := minio.New(endpoint.Host, o)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	b := &bucket{client: client, bucket: u.Host}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		b.prefix = prefix + "/"
	}
	return b, nil
}

func (b *bucket) String() string { return "s3://" + b.bucket + "/" + b.prefix }

// List implements Target.
func (b *bucket) List(ctx context.Context, prefix string) ([]Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out []Object
	for o := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix}) {
		if o.Err != nil {
			return nil, b.failed("look for backups", o.Err)
		}
		if name := strings.TrimPrefix(o.Key, b.prefix); !strings.HasSuffix(name, "/") { // a folder
			out = append(out, Object{Name: name, Size: o.Size})
		}
	}
	return out, nil
}

// Put implements Target. Buckets that lock their objects ask for the MD5.
func (b *bucket) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, r, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", SendContentMd5: true, PartSize: partSize(size),
	})
	if err != nil {
		return b.failed("upload backup", err)
	}
	return nil
}

// partSize keeps an upload below 10,000 parts.
func partSize(size int64) uint64 {
	return partBytes * uint64(1+size/(partBytes*9_999))
}

// Open implements Target.
func (b *bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := b.client.GetObject(ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.failed("read backup", err)
	}
	return o, nil
}

// Remove implements Target.
func (b *bucket) Remove(ctx context.Context, name string) error {
	if err := b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}); err != nil {
		return b.failed("remove backup", err)
	}
	return nil
}

// Sweep implements Target. Storage that knows no list of uploads has to end
// them by a rule of its own.
func (b *bucket) Sweep(ctx context.Context, prefix string, before time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs []error
	for u := range b.client.ListIncompleteUploads(ctx, b.bucket, b.prefix+prefix, true) {
		err := u.Err
		if err == nil && u.Initiated.Before(before) {
			err = b.client.RemoveIncompleteUpload(ctx, b.bucket, u.Key)
		}
		if err != nil && minio.ToErrorResponse(err).Code != minio.NotImplemented {
			errs = append(errs, b.failed("end an upload that was left", err))
		}
	}
	return errors.Join(errs...)
}

// failed says what the server said, by its code too, and helps where nobody
// gave credentials.
func (b *bucket) failed(what string, err error) error {
	if code := minio.ToErrorResponse(err).Code; code != "" {
		what += ": " + code
	}
	if c, e := b.client.GetCreds(); e == nil && c.AccessKeyID == "" {
		what += ", no credentials were found"
	}
	return fmt.Errorf("%s: %w", what, err)
}

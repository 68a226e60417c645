package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// startS3 starts a real S3 server with the bucket "ecp-test".
func startS3(t *testing.T) *local.S3 {
	t.Helper()
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	s := runS3(t, t.TempDir(), ports[0])
	if err := s.MakeBucket("ecp-test"); err != nil {
		t.Fatal(err)
	}
	return s
}

func runS3(t *testing.T, dir string, port int) *local.S3 {
	t.Helper()
	s, err := local.StartS3(t.Context(), dir, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func bucketOf(t *testing.T, s *local.S3, path, secret string) *bucket {
	t.Helper()
	u, err := url.Parse(s.URL(path))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBucket(u, credentials.NewStaticV4(local.S3AccessKey, secret, ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Both targets do what Target says.
func TestTargets(t *testing.T) {
	s := startS3(t)
	for name, to := range map[string]Target{
		"directory": &directory{t.TempDir()}, "bucket": bucketOf(t, s, "ecp-test", local.S3SecretKey),
		"folder of a bucket": bucketOf(t, s, "ecp-test/some/where", local.S3SecretKey),
	} {
		t.Run(name, func(t *testing.T) {
			small, large := bytes.Repeat([]byte("small"), 100), make([]byte, 2*partBytes+1000)
			_, _ = rand.NewChaCha8([32]byte{}).Read(large)
			for object, content := range map[string][]byte{"a-1": small, "a-2": large, "b-1": small} {
				if err := to.Put(t.Context(), object, int64(len(content)), bytes.NewReader(content)); err != nil {
					t.Fatal(err)
				}
				if got := read(t, to, object); !bytes.Equal(got, content) {
					t.Errorf("%s: %d bytes read back of %d", object, len(got), len(content))
				}
			}
			list := func(prefix string) []string {
				objects, err := to.List(t.Context(), prefix)
				if err != nil {
					t.Fatal(err)
				}
				var out []string
				for _, o := range objects {
					out = append(out, o.Name)
					if want := int64(len(map[string][]byte{"a-1": small, "a-2": large, "b-1": small}[o.Name])); o.Size != want {
						t.Errorf("%s has %d bytes, not %d", o.Name, o.Size, want)
					}
				}
				slices.Sort(out)
				return out
			}
			equal(t, "a-", list("a-"), []string{"a-1", "a-2"})
			for what, r := range map[string]io.Reader{
				"a reader that fails at first": failing(0), "one that fails in the second part": failing(partBytes + 5), "too few bytes": bytes.NewReader(small),
			} {
				if err := to.Put(t.Context(), "a-3", int64(len(large)), r); err == nil {
					t.Errorf("%s: no error", what)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			lost := io.MultiReader(io.LimitReader(zeros{}, partBytes+5), readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }), zeros{})
			if err := to.Put(ctx, "a-3", int64(len(large)), io.LimitReader(lost, int64(len(large)))); !errors.Is(err, context.Canceled) {
				t.Errorf("the lead is lost meanwhile: %v", err)
			}
			equal(t, "after attempts that failed", list("a-"), []string{"a-1", "a-2"})
			if err := to.Remove(t.Context(), "a-1"); err != nil {
				t.Fatal(err)
			}
			equal(t, "after the removal", list(""), []string{"a-2", "b-1"})
			if _, err := readAll(t.Context(), to, "a-1"); err == nil {
				t.Error("what was removed can be read")
			}
		})
	}
}

var errTest = errors.New("test")

// failing gives n bytes and then an error.
func failing(n int64) io.Reader {
	return io.MultiReader(io.LimitReader(zeros{}, n), readerFunc(func([]byte) (int, error) { return 0, errTest }))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func readAll(ctx context.Context, to Target, name string) ([]byte, error) {
	r, err := to.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func read(t *testing.T, to Target, name string) []byte {
	t.Helper()
	b, err := readAll(t.Context(), to, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A large backup goes out in parts, of which one is in memory.
func TestUploadIsBounded(t *testing.T) {
	b := bucketOf(t, startS3(t), "ecp-test", local.S3SecretKey)
	const size = 12 * partBytes
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.Put(t.Context(), "large", size, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 3*partBytes {
		t.Errorf("%d MiB were allocated for %d MiB", got>>20, size>>20)
	}
	for size, want := range map[int64]uint64{0: 16 << 20, 9_999 * partBytes: 32 << 20, 1 << 40: 112 << 20} {
		if got := partSize(size); got != want || uint64(size)/got >= 10_000 {
			t.Errorf("parts of %d for %d", got, size)
		}
	}
}

// What the server refuses is told by its code.
func TestRefusedByTheServer(t *testing.T) {
	s := startS3(t)
	for want, to := range map[string]*bucket{
		"NoSuchBucket":          bucketOf(t, s, "missing", local.S3SecretKey),
		"SignatureDoesNotMatch": bucketOf(t, s, "ecp-test", "wrong"),
	} {
		if _, err := to.List(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("list: %v, want %s", err, want)
		}
		if err := to.Put(t.Context(), "a", 1, strings.NewReader("a")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("put: %v, want %s", err, want)
		}
	}
	nobody, err := newBucket(&url.URL{Scheme: "s3", Host: "ecp-test", RawQuery: url.Values{"endpoint": {s.Endpoint}}.Encode()},
		credentials.NewChainCredentials(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.List(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "no credentials were found") {
		t.Errorf("%v", err)
	}
}

// A server that dies in the middle of an upload: an error within a moment,
// nothing to be seen, and what is left of it is swept away.
func TestServerDiesMeanwhile(t *testing.T) {
	s := startS3(t)
	b := bucketOf(t, s, "ecp-test", local.S3SecretKey)
	const size = 4 * partBytes
	err := b.Put(t.Context(), "ecp-c1-x", size, io.MultiReader(
		io.LimitReader(zeros{}, size/2), // two parts
		readerFunc(func([]byte) (int, error) { s.Kill(); return 0, io.EOF }), io.LimitReader(zeros{}, size/2),
	))
	if err == nil || !strings.Contains(err.Error(), "connection re") {
		t.Errorf("%v", err)
	}
	runS3(t, s.Dir, s.Port)
	if objects, err := b.List(t.Context(), ""); err != nil || len(objects) != 0 {
		t.Errorf("%v, %v", objects, err)
	}
	left := func() int {
		n := 0
		for u := range b.client.ListIncompleteUploads(t.Context(), "ecp-test", "ecp-c1-", true) {
			if u.Err != nil {
				t.Fatal(u.Err)
			}
			n++
		}
		return n
	}
	for _, sweep := range []struct {
		prefix string
		before time.Time
		left   int
	}{{"ecp-c1-", time.Now().Add(-leftAfter), 1}, {"ecp-c2-", time.Now().Add(time.Minute), 1}, {"ecp-c1-", time.Now().Add(time.Minute), 0}} {
		if err := b.Sweep(t.Context(), sweep.prefix, sweep.before); err != nil {
			t.Fatal(err)
		}
		if n := left(); n != sweep.left {
			t.Errorf("%d uploads are left after %v, not %d", n, sweep, sweep.left)
		}
	}
}

// A Keeper on a real server: schedule, retention, an outage, and a backup that
// holds the state.
func TestKeeperOnABucket(t *testing.T) {
	s := startS3(t)
	b := bucketOf(t, s, "ecp-test/prod", local.S3SecretKey)
	if err := b.Put(t.Context(), "ecp-c2-other", 1, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	c := newLeading(t, "c1", 100)
	k := newKeeper(t, b, c, func(cfg *Config) { cfg.Every, cfg.Keep = time.Second, 2 })
	k.retry = 100 * time.Millisecond
	stop := runs(t, k)
	defer stop()
	ours := func() []Object {
		objects, err := b.List(t.Context(), "ecp-c1-")
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
	var first string
	eventually(t, 20*time.Second, "a backup", func() bool { first = k.Report().GetName(); return first != "" })
	eventually(t, 20*time.Second, "the first one is removed", func() bool {
		return !slices.ContainsFunc(ours(), func(o Object) bool { return o.Name == first })
	})
	eventually(t, 20*time.Second, "two stay", func() bool { return len(ours()) == 2 })

	s.Kill()
	eventually(t, 30*time.Second, "the outage is told", func() bool {
		r := k.Report()
		return r.GetState() == fsmpb.BackupReport_FAILING && strings.Contains(r.Reason, "connection refused")
	})
	c.put(t, "meanwhile")
	runS3(t, s.Dir, s.Port)
	eventually(t, 30*time.Second, "it goes on", func() bool {
		r := k.Report()
		return r.GetState() == fsmpb.BackupReport_OK && r.Index == c.State().Index()
	})
	stop()
	objects := ours()
	newest := slices.MaxFunc(objects, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	_, st, err := fsm.ReadBackup(bytes.NewReader(read(t, b, newest.Name)))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := c.State().Hash()
	if got, err := st.Hash(); err != nil || got != want {
		t.Errorf("another state: %v", err)
	}
	if objects, err := b.List(t.Context(), "ecp-c2-"); err != nil || len(objects) != 1 {
		t.Errorf("what is somebody else's: %v, %v", objects, err)
	}
}

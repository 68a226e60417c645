package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/cluster/store"
)

// partSuffix ends the names of files that are being written; they begin with a
// dot.
const partSuffix = ".part"

// directory is a Target. It is never made: one that is missing may be a file
// system that is not mounted.
type directory struct{ path string }

func (d *directory) String() string { return d.path }

// List implements Target.
func (d *directory) List(_ context.Context, prefix string) ([]Object, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	var out []Object
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, fmt.Errorf("look for backups: %w", err)
		}
		out = append(out, Object{Name: e.Name(), Size: info.Size()})
	}
	return out, nil
}

// Put implements Target.
func (d *directory) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	f, err := os.CreateTemp(d.path, "."+name+".*"+partSuffix)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came, not %d", n, size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}
	if err == nil {
		err = store.SyncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// Open implements Target.
func (d *directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(d.path, name))
}

// Remove implements Target.
func (d *directory) Remove(_ context.Context, name string) error {
	return os.Remove(filepath.Join(d.path, name))
}

// Sweep implements Target.
func (d *directory) Sweep(ctx context.Context, prefix string, before time.Time) error {
	parts, err := d.List(ctx, "."+prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range parts {
		path := filepath.Join(d.path, p.Name)
		info, err := os.Lstat(path)
		if err == nil && strings.HasSuffix(p.Name, partSuffix) && info.ModTime().Before(before) {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

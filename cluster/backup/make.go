package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// stallAfter is how long a target may take no byte, or give none.
const stallAfter = 3 * time.Minute

// removeLimit bounds the removal of a backup that does not hold.
const removeLimit = 10 * time.Second

// make writes a state to the target and reads it back. The state is written
// twice, first for its size and checksum, which stand in its name.
func (t *tenure) make(ctx context.Context, st *fsm.State) (Backup, error) {
	start := time.Now()
	st = st.WithoutReadOnly()
	sum, size, err := st.Measure()
	if err != nil {
		return Backup{}, err
	}
	b := Backup{Cluster: st.Identity().GetClusterId(), At: start.UTC().Truncate(time.Second), Index: st.Index(), SHA256: sum, Size: size}
	b.Name = nameOf(b.Cluster, b.At, b.Index, b.SHA256)
	if err := t.put(ctx, b, st); err != nil {
		return Backup{}, err
	}
	verdict, err := t.verify(ctx, b)
	if err != nil {
		return Backup{}, err
	}
	if verdict != nil {
		t.verdicts[b.Name] = verdict
		ctx, cancel := context.WithTimeout(ctx, removeLimit)
		defer cancel()
		return Backup{}, errors.Join(verdict, t.cfg.Target.Remove(ctx, b.Name))
	}
	t.verdicts[b.Name] = nil
	took := time.Since(start)
	t.metrics.made.Inc()
	t.metrics.seconds.Observe(took.Seconds())
	t.log.Info("backup made", "target", t.cfg.Target.String(), "name", b.Name, "index", b.Index, "bytes", b.Size, "took", took.Round(time.Millisecond))
	return b, nil
}

// put hands the bytes of a state to the target as it takes them.
func (t *tenure) put(ctx context.Context, b Backup, st *fsm.State) error {
	ctx, moved, cancel := whileMoving(ctx)
	defer cancel()
	r, w := io.Pipe()
	var writer sync.WaitGroup
	writer.Go(func() { w.CloseWithError(st.WriteSnapshot(w)) })
	err := t.cfg.Target.Put(ctx, b.Name, b.Size, through(ctx, moved, r))
	r.Close() // the writer ends
	writer.Wait()
	return because(ctx, err)
}

// verify reads a backup. The verdict is nil when it is what its name says; err
// tells that it could not be read.
func (t *tenure) verify(ctx context.Context, b Backup) (verdict, err error) {
	ctx, moved, cancel := whileMoving(ctx)
	defer cancel()
	r, err := t.cfg.Target.Open(ctx, b.Name)
	if err != nil {
		return nil, because(ctx, err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, through(ctx, moved, r)); err != nil {
		return nil, fmt.Errorf("read %s back: %w", b.Name, because(ctx, err))
	}
	if sum := [32]byte(h.Sum(nil)); sum != b.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %x, not that of its name", b.Name, sum), nil
	}
	return nil, nil
}

// whileMoving returns a context that ends when moved has not been called for
// stallAfter.
func whileMoving(ctx context.Context) (moving context.Context, moved, cancel func()) {
	moving, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(stallAfter, func() { end(fmt.Errorf("nothing has moved for %s", stallAfter)) })
	return moving, func() { timer.Reset(stallAfter) }, func() {
		timer.Stop()
		end(nil)
	}
}

// through reads from r while the context lasts, and tells of each time.
func through(ctx context.Context, moved func(), r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := r.Read(p)
		moved()
		return n, err
	})
}

// because prefers the reason for which a context has ended.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

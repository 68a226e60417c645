package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// intact walks over a bolt file before it is opened for writing: bolt then
// looks for free pages in a goroutine of its own, and a page that is none of
// its own ends the process there, without a word about the way out.
func intact(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil // it is made now
	}
	if err != nil {
		return err
	}
	err = guarded(func() error {
		return walk(path, func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
				return bucket.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return &DamagedError{Path: path, Cause: err.Error()}
	}
	return nil
}

// walk looks at a bolt file read-only, if all of it is there: a look at the keys
// does not tell, because a value, as the reserve, may be large.
func walk(path string, look func(*bbolt.Tx) error) error {
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return err
	}
	defer db.Close()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("it is cut short: it has %d bytes of %d", info.Size(), tx.Size())
		}
		return look(tx)
	})
}

// whole reports that a bolt file has been cut short.
func whole(path string) error { return walk(path, func(*bbolt.Tx) error { return nil }) }

// guarded makes errors of what bolt does on a file that is no longer one of
// its own: panics, and faults where the file ends early.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be read: %v", r)
		}
	}()
	return do()
}

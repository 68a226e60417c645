package store

import (
	"encoding/binary"
	"unsafe"

	"go.etcd.io/bbolt"
)

// offsetOf returns where the log's file has an entry, 0 when that cannot be
// told. Bolt maps the file into memory and hands out slices of that.
func offsetOf(path string, index uint64) (offset int64) {
	_ = guarded(func() error { // a damaged file may have no answer
		db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			value := tx.Bucket([]byte("logs")).Get(binary.BigEndian.AppendUint64(nil, index))
			if len(value) > 0 {
				at := uintptr(unsafe.Pointer(unsafe.SliceData(value))) //nolint:gosec // only its distance from the map's start is used
				offset = int64(at - db.Info().Data)
			}
			return nil
		})
	})
	return offset
}

//go:build !linux

package store

// Free returns how many bytes of the disk below a directory are free; false
// where that cannot be told.
func Free(string) (bytes uint64, ok bool) { return 0, false }

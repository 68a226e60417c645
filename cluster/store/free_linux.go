package store

import "golang.org/x/sys/unix"

// Free returns how many bytes of the disk below a directory are free; false
// where that cannot be told.
func Free(dir string) (bytes uint64, ok bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true
}

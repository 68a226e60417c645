package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Where bolt's meta pages have what is read here. There are two, written in
// turn; the page size is in each.
const (
	pageHeader    = 16
	metaBytes     = 64
	metaMagic     = 0xED0CDAED
	metaPageSize  = 8
	metaHighWater = 40
	metaTx        = 48
	metaSum       = 56
)

// checkSize returns an error when a file is shorter than bolt thinks it is.
// Bolt panics on such a file, in a goroutine of its own, or the first read of a
// page that is not there kills the process.
func checkSize(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the size: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check the size: %w", err)
	}
	if want := used(f); info.Size() < want {
		return fmt.Errorf("%s: the file is damaged (%d bytes of %d are there): move the data directory aside and start the node again, "+
			"it then joins as a new incarnation and is brought up by the others", path, info.Size(), want)
	}
	return nil
}

// used is how much of a bolt file is in use, by the newer of its meta pages; 0
// where there is none, which bolt says itself.
func used(f io.ReaderAt) (size int64) {
	var newest uint64
	for _, at := range metaOffsets(f) {
		meta, ok := readMeta(f, at)
		if tx := binary.NativeEndian.Uint64(meta[metaTx:]); ok && tx >= newest {
			newest = tx
			size = int64(binary.NativeEndian.Uint64(meta[metaHighWater:])) * int64(binary.NativeEndian.Uint32(meta[metaPageSize:]))
		}
	}
	return size
}

// metaOffsets returns where the meta pages are. The second is found by the
// size of pages in the first, or by the sizes that systems have.
func metaOffsets(f io.ReaderAt) []int64 {
	if meta, ok := readMeta(f, 0); ok {
		return []int64{0, int64(binary.NativeEndian.Uint32(meta[metaPageSize:]))}
	}
	return []int64{4 << 10, 16 << 10, 64 << 10}
}

func readMeta(f io.ReaderAt, page int64) (meta [metaBytes]byte, ok bool) {
	if _, err := f.ReadAt(meta[:], page+pageHeader); err != nil {
		return meta, false
	}
	sum := fnv.New64a()
	_, _ = sum.Write(meta[:metaSum]) // a hash takes everything
	return meta, binary.NativeEndian.Uint32(meta[:]) == metaMagic && binary.NativeEndian.Uint64(meta[metaSum:]) == sum.Sum64()
}

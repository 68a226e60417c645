package store

import "os"

// fill appends zeros until the file has a size.
func fill(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if have := info.Size(); have < size {
		_, err = f.WriteAt(make([]byte, size-have), have)
	}
	return err
}

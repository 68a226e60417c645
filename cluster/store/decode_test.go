package store

import (
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// decode reads an entry as raft-boltdb does.
func decode(value []byte, into *raft.Log) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return codec.NewDecoderBytes(value, &codec.MsgpackHandle{}).Decode(into)
}

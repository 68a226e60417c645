package xds

import (
	"context"
	"math"
	"time"
)

// aheadWait is how long a stream waits for the state from which its proxy has
// something: for moments a node is behind the one that the proxy came from.
const aheadWait = time.Second

// catchUp waits until the server has the state of the newest version that a
// proxy says it has, so that it is sent nothing older. One of another cluster
// may have versions that this one does not reach: when a wait was in vain,
// nobody waits for so late an index again before it is reached.
func (st *stream) catchUp(initial []named) {
	s := st.server
	newest := uint64(0)
	for _, n := range initial {
		if index := versionIndex(n.version); index != math.MaxUint64 {
			newest = max(newest, index)
		}
	}
	vain := s.vain.Load()
	if newest == 0 || vain != 0 && newest >= vain && !s.seen.passed(vain) || s.stale.Load() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(st.rpc.Context(), aheadWait)
	defer cancel()
	if s.Seen(ctx, newest) != nil && st.rpc.Context().Err() == nil {
		s.vain.Store(newest)
	}
}

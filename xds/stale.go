package xds

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/org/envoy-control-plane/fsm"
)

// ServeStale makes the server careful from here on: its state, that of a log
// index, is the last that this node knows of, and other nodes may have served
// newer ones. No proxy is then sent anything older than what it says it has.
func (s *Server) ServeStale(index uint64) {
	s.stale.Store(max(index, 1))
}

// EndStale ends it, once the fan-out has worked through the state of a log
// index, and lets every stream look again.
func (s *Server) EndStale(ctx context.Context, index uint64) error {
	if err := s.Seen(ctx, index); err != nil {
		return err
	}
	s.stale.Store(0)
	for _, st := range s.hub.streams("", "") {
		st.pump(false)
	}
	return nil
}

// Seen waits until streams are served the state of a log index or a later one.
func (s *Server) Seen(ctx context.Context, index uint64) error { return s.seen.reach(ctx, index) }

// withheld reports whether a state-of-the-world stream began with another
// version than a stale state has. A digest does not say whether it is newer,
// and sending clusters without their endpoints would make them warm for
// nothing, so all that the proxy has stays as it is.
func (st *stream) withheld(t *subscribed, to *content) bool {
	return t.claim != "" && st.server.stale.Load() > 0 && t.claim != to.digest()
}

// sparingNewer returns a content in which what a proxy says it has, and has
// from a later state than that of a log index, stays as it is.
func (c *content) sparingNewer(sent *content, index uint64) *content {
	if sent == nil || !sent.private {
		return c
	}
	var kept []*item
	walk(sent, c, func(had, now *item) {
		if had == nil || had.state != claimed || now == nil && !c.whole || now != nil && now.sameAs(had) {
			return
		}
		newest := index
		if now != nil && now.state == present {
			newest = now.index
		}
		if versionIndex(had.version) > newest {
			kept = append(kept, had)
		}
	})
	return c.with(kept, sent)
}

// versionIndex returns the log index in a version. Of one that is not ours
// nobody knows how old it is: it counts as newer than all.
func versionIndex(version string) uint64 {
	index, hash, _ := strings.Cut(version, "-")
	n, err := strconv.ParseUint(index, 10, 64)
	if err != nil || len(hash) != len(fsm.VersionHash(fsm.Version(0, make([]byte, 8)))) {
		return math.MaxUint64
	}
	return n
}

package transport

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// maxTermJump bounds how far above the own term one message may be. A cluster
// that elects ten times a second needs a dozen years for it.
const maxTermJump = 1 << 32

var errMalformed = errors.New("malformed Raft message")

// check refuses what Raft would panic on or never recover from.
func (t *Raft) check(command any) error {
	switch req := command.(type) {
	case *raft.AppendEntriesRequest:
		if err := t.checkHeader(req.RPCHeader, req.Term); err != nil {
			return err
		}
		return checkEntries(req)
	case *raft.RequestVoteRequest:
		return t.checkHeader(req.RPCHeader, req.Term)
	case *raft.RequestPreVoteRequest:
		return t.checkHeader(req.RPCHeader, req.Term)
	case *raft.TimeoutNowRequest:
		return t.checkHeader(req.RPCHeader, 0)
	case *raft.InstallSnapshotRequest:
		if err := t.checkHeader(req.RPCHeader, req.Term); err != nil {
			return err
		}
		if req.SnapshotVersion != 1 || req.Size < 0 {
			return fmt.Errorf("%w: snapshot version %d, size %d", errMalformed, req.SnapshotVersion, req.Size)
		}
		return checkConfiguration(req.Configuration)
	}
	return errMalformed
}

func (t *Raft) checkHeader(h raft.RPCHeader, term uint64) error {
	if h.ProtocolVersion != raft.ProtocolVersionMax || len(h.ID) == 0 || len(h.Addr) == 0 {
		return fmt.Errorf("%w: header", errMalformed)
	}
	f := t.follower.Load()
	if f == nil {
		return nil
	}
	if own := (*f).CurrentTerm(); term > own && term-own > maxTermJump {
		return fmt.Errorf("%w: term %d, own term %d", errMalformed, term, own)
	}
	return nil
}

func checkEntries(req *raft.AppendEntriesRequest) error {
	for i, e := range req.Entries {
		if e == nil || e.Index != req.PrevLogEntry+1+uint64(i) || e.Term > req.Term || e.Term == 0 {
			return fmt.Errorf("%w: entry %d", errMalformed, i)
		}
		switch e.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			if err := checkConfiguration(e.Data); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: entry of type %d", errMalformed, e.Type)
		}
	}
	return nil
}

// checkConfiguration tries to decode what Raft panics on when it cannot.
func checkConfiguration(data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: configuration: %v", errMalformed, r)
		}
	}()
	for _, s := range raft.DecodeConfiguration(data).Servers {
		if s.Suffrage == raft.Voter {
			return nil
		}
	}
	return fmt.Errorf("%w: a configuration without voters", errMalformed)
}

package cluster

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// server answers the other nodes.
type server struct {
	clusterpb.UnimplementedPeerServer
	n *Node
}

func newServer(n *Node) *grpc.Server {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	clusterpb.RegisterPeerServer(s, &server{n: n})
	return s
}

// Probe implements clusterpb.PeerServer.
func (s *server) Probe(context.Context, *clusterpb.ProbeRequest) (*clusterpb.NodeInfo, error) {
	return s.n.info(), nil
}

// Promise implements clusterpb.PeerServer.
func (s *server) Promise(_ context.Context, req *clusterpb.PromiseRequest) (*clusterpb.PromiseReply, error) {
	refusal := s.n.promise(req.GetPromise())
	return &clusterpb.PromiseReply{Granted: refusal == "", Refusal: refusal, Info: s.n.info()}, nil
}

// Join implements clusterpb.PeerServer.
func (s *server) Join(ctx context.Context, req *clusterpb.JoinRequest) (*clusterpb.Outcome, error) {
	return said(s.n.admit(ctx, req)), nil
}

// Remove implements clusterpb.PeerServer.
func (s *server) Remove(ctx context.Context, req *clusterpb.RemoveRequest) (*clusterpb.Outcome, error) {
	return said(s.n.removeHere(ctx, req.GetNodeId())), nil
}

// Transfer implements clusterpb.PeerServer.
func (s *server) Transfer(ctx context.Context, req *clusterpb.TransferRequest) (*clusterpb.Outcome, error) {
	return said(s.n.transferHere(ctx, req.GetNodeId())), nil
}

// Drain implements clusterpb.PeerServer.
func (s *server) Drain(ctx context.Context, req *clusterpb.DrainRequest) (*clusterpb.Outcome, error) {
	return said(s.n.drainHere(ctx, req.GetOn(), time.Duration(req.GetWithinMs())*time.Millisecond)), nil
}

// Vote implements clusterpb.PeerServer.
func (s *server) Vote(_ context.Context, req *clusterpb.VoteRequest) (*clusterpb.Outcome, error) {
	return said(s.n.setVotingHere(req.GetWilling())), nil
}

// Finalize implements clusterpb.PeerServer.
func (s *server) Finalize(ctx context.Context, req *clusterpb.FinalizeRequest) (*clusterpb.ProposeReply, error) {
	result, err := s.n.finalizeHere(ctx, req.GetBy())
	return &clusterpb.ProposeReply{Result: result, Outcome: outcomeOf(err)}, nil
}

// said is an outcome, never nil.
func said(err error) *clusterpb.Outcome {
	if o := outcomeOf(err); o != nil {
		return o
	}
	return &clusterpb.Outcome{}
}

// Propose implements clusterpb.PeerServer.
func (s *server) Propose(ctx context.Context, req *clusterpb.ProposeRequest) (*clusterpb.ProposeReply, error) {
	return s.propose(ctx, [][]byte{req.GetCommand()})[0], nil
}

// ProposeMany implements clusterpb.PeerServer.
func (s *server) ProposeMany(ctx context.Context, req *clusterpb.ProposeManyRequest) (*clusterpb.ProposeManyReply, error) {
	return &clusterpb.ProposeManyReply{Replies: s.propose(ctx, req.GetCommands())}, nil
}

// propose hands all commands in before it waits for the first.
func (s *server) propose(ctx context.Context, commands [][]byte) []*clusterpb.ProposeReply {
	replies := make([]*clusterpb.ProposeReply, len(commands))
	waiting := make([]*proposal, len(commands))
	rt := s.n.rt.Load()
	for i, body := range commands {
		var err error
		if waiting[i], err = takeIn(ctx, rt, body); err != nil {
			replies[i] = &clusterpb.ProposeReply{Outcome: outcomeOf(err)}
		}
	}
	for i, x := range waiting {
		if x != nil {
			result, err := rt.proposer.await(ctx, x)
			replies[i] = &clusterpb.ProposeReply{Result: result, Outcome: outcomeOf(err)}
		}
	}
	return replies
}

func takeIn(ctx context.Context, rt *runtime, command []byte) (*proposal, error) {
	if rt == nil {
		return nil, errNotLeader
	}
	// One command that cannot be read would spoil the whole entry.
	if err := proto.Unmarshal(command, &fsmpb.Command{}); err != nil {
		return nil, fsm.Refusal(fsm.CodeInvalid, "the forwarded command cannot be read: %v", err)
	}
	return rt.proposer.put(ctx, command)
}

// ReadIndex implements clusterpb.PeerServer.
func (s *server) ReadIndex(ctx context.Context, _ *clusterpb.ReadIndexRequest) (*clusterpb.ReadIndexReply, error) {
	rt := s.n.rt.Load()
	if rt == nil {
		return &clusterpb.ReadIndexReply{Outcome: outcomeOf(errNotLeader)}, nil
	}
	index, err := rt.reader.read(ctx)
	return &clusterpb.ReadIndexReply{Index: index, Outcome: outcomeOf(err)}, nil
}

// Confirm implements clusterpb.PeerServer.
func (s *server) Confirm(context.Context, *clusterpb.ConfirmRequest) (*clusterpb.ConfirmReply, error) {
	reply := &clusterpb.ConfirmReply{ServerId: s.n.ident.ServerID()}
	if rt := s.n.rt.Load(); rt != nil && s.n.failed.Load() == nil {
		reply.Term = rt.raft.CurrentTerm()
	}
	return reply, nil
}

// Query implements clusterpb.PeerServer.
func (s *server) Query(ctx context.Context, req *clusterpb.QueryRequest) (*clusterpb.QueryReply, error) {
	answer, err := s.n.answer(ctx, req.GetQuery())
	return &clusterpb.QueryReply{Answer: answer, Outcome: outcomeOf(err)}, nil
}

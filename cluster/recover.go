package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
)

// A Recovery makes the data of one survivor the cluster, after a majority was
// lost for good. Its last entries count as committed whether they were or not.
// It changes the membership and begins a new epoch, and no node with other
// data is let in any more.
type Recovery struct {
	*Examination
	// Voters of the new configuration.
	Voters []raft.Server
	// ID of the recovery, and of the new epoch.
	ID string
	// Token repeats the recovery on the other voters.
	Token string
	// Unfinished: an earlier call was interrupted after it had decided. All
	// that is left is to finish that one.
	Unfinished bool
	Warnings   []string

	// crash makes a test's recovery end at a step.
	crash func(step string) error
}

// A Voter is a server of the new configuration: a bare node id stands for the
// node whose directory it is.
type Voter struct{ ID, Address string }

// ParseVoters reads "<node id>=<host>:<raft port>"; data of another node is
// named by "<node id>/<incarnation>=...".
func ParseVoters(texts []string) ([]Voter, error) {
	voters := make([]Voter, 0, len(texts))
	for _, text := range texts {
		id, address, ok := strings.Cut(text, "=")
		host, port, err := net.SplitHostPort(address)
		if !ok || id == "" || err != nil || host == "" {
			return nil, fmt.Errorf("voter %q is not <node id>=<host>:<raft port>", text)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("voter %q: %s is not a port", text, port)
		}
		voters = append(voters, Voter{id, address})
	}
	if len(voters) == 0 {
		return nil, errors.New("no voters")
	}
	return voters, nil
}

// PlanRecovery reads a data directory, changes nothing, and returns what Do
// would do. Other nodes than that of the directory can be voters only if their
// data ends where its data does; they are recovered after it, by its token.
func PlanRecovery(dir string, voters []Voter, token string) (*Recovery, error) {
	e, err := Examine(dir)
	if err != nil {
		return nil, err
	}
	r := &Recovery{Examination: e, crash: func(string) error { return nil }}
	if e.Identity.Recovering != "" {
		r.Unfinished, r.ID = true, newest(e.Identity.Recoveries)
		return r, nil
	}
	if !e.Sound() {
		return nil, fmt.Errorf("%s is damaged, see doctor: recover from another survivor, or from a backup", dir)
	}
	if e.State.Identity().GetClusterId() == "" {
		return nil, fmt.Errorf("%s holds no data of a cluster", dir)
	}
	for _, v := range voters {
		server, err := r.server(v)
		if err != nil {
			return nil, fmt.Errorf("voter %s: %w", v.ID, err)
		}
		r.Voters = append(r.Voters, server)
	}
	slices.SortFunc(r.Voters, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, r.name(token)
}

// server finds the server that a voter is.
func (r *Recovery) server(v Voter) (raft.Server, error) {
	id := v.ID
	switch {
	case id == r.Identity.NodeId:
		id = r.ServerID()
	case !strings.Contains(id, "/"):
		return raft.Server{}, fmt.Errorf("it is another node: name its data too, %s/<incarnation>, which doctor shows there", id)
	case nodeOf(id) == r.Identity.NodeId && id != r.ServerID():
		return raft.Server{}, fmt.Errorf("the data here is that of %s", r.ServerID())
	case !r.knows(id):
		return raft.Server{}, errors.New("it is no member of the cluster: it can join afterwards")
	}
	return raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: transport.Address(id, v.Address)}, nil
}

// knows reports whether a server is in the present configuration.
func (r *Recovery) knows(serverID string) bool {
	return slices.ContainsFunc(r.Configuration.Servers, func(s raft.Server) bool { return string(s.ID) == serverID })
}

func (r *Recovery) check() error {
	ids := map[raft.ServerID]bool{}
	for _, v := range r.Voters {
		if ids[v.ID] {
			return fmt.Errorf("%s is named twice", v.ID)
		}
		ids[v.ID] = true
	}
	if !ids[raft.ServerID(r.ServerID())] {
		return fmt.Errorf("the node of this directory, %s, must be among the voters", r.Identity.NodeId)
	}
	if !r.knows(r.ServerID()) {
		r.Warnings = append(r.Warnings, r.ServerID()+" was no member of the cluster any more: its data may be old")
	}
	if len(r.Voters)%2 == 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d voters: all but one of them must live", len(r.Voters)))
	}
	return nil
}

// name gives the recovery its id. Two voters come to the same one, by the
// token, only if their data ends alike and they are to be the same voters.
// Otherwise a majority of voters could lack what another has.
func (r *Recovery) name(token string) error {
	seed, want, given := strings.Cut(token, "-")
	if token == "" {
		seed = randomID(8)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%s\n%s\n%d\n%d\n", seed, r.Identity.ClusterId, strings.Join(r.Identity.Recoveries, ","), r.LastTerm, r.LastIndex)
	for _, v := range r.Voters {
		fmt.Fprintln(sum, v.ID, v.Address)
	}
	r.ID = hex.EncodeToString(sum.Sum(nil)[:8])
	r.Token = seed + "-" + r.ID
	if token != "" && (!given || want != r.ID) {
		return fmt.Errorf("this is not the recovery %s: the voters are others, or the data here does not end at the same index and term "+
			"(it ends at %d, term %d); a node whose data ends earlier cannot be a voter, move its data directory aside and let it join", want, r.LastIndex, r.LastTerm)
	}
	return nil
}

// NewMembers returns the new configuration.
func (r *Recovery) NewMembers() []Member { return membersOf(r.Voters) }

// Do carries the recovery out. Interrupted at any point it leaves the old state
// or, from the write of node.json on, the new one: what is left to do is then
// done by the next call, or by the node when it starts.
func (r *Recovery) Do(log *slog.Logger) (err error) {
	s, err := store.Open(r.Dir, store.Options{Damaged: func(error) {}, Log: newRaftLog(log)})
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%s is in use by a running node, stop it first: %w", r.Dir, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ident, err := readIdentity(r.Dir)
	if err != nil {
		return err
	}
	if !r.Unfinished {
		if err := r.decide(s, ident); err != nil {
			return err
		}
	}
	if err := r.crash("decided"); err != nil {
		return err
	}
	return finishRecovery(s, ident)
}

// decide stages the new state and writes down that it counts.
func (r *Recovery) decide(s *store.Stores, ident *identity) error {
	index, err := s.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if index != r.Last || !slices.Equal(ident.get().Recoveries, r.Identity.Recoveries) || ident.get().Recovering != "" {
		return fmt.Errorf("%s has changed meanwhile", r.Dir)
	}
	snapshot, err := store.Stage(r.Dir, raft.SnapshotMeta{
		Index: r.LastIndex, Term: r.LastTerm,
		Configuration: raft.Configuration{Servers: r.Voters}, ConfigurationIndex: 1,
	}, r.State.Recovered(r.ID))
	if err != nil {
		return err
	}
	if err := r.crash("staged"); err != nil {
		return err
	}
	return ident.update(func(id *clusterpb.Identity) error {
		id.ClusterId, id.Promise = r.State.Identity().GetClusterId(), nil
		id.Recoveries = append(slices.Clone(id.Recoveries), r.ID)
		id.Recovering = snapshot
		id.Removed = false // the cluster that had removed it is no more
		return nil
	})
}

// finishRecovery puts the snapshot of a recovery that was decided into its place.
func finishRecovery(s *store.Stores, ident *identity) error {
	id := ident.get().Recovering
	if id == "" {
		return nil
	}
	if err := s.Adopt(id); err != nil {
		return fmt.Errorf("finish the recovery: %w", err)
	}
	return ident.update(func(id *clusterpb.Identity) error {
		id.Recovering = ""
		return nil
	})
}

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cluster"
)

// doctorCommand reads data directories of stopped nodes.
func doctorCommand() *cobra.Command {
	var dirs []string
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the data directory of a stopped node",
		Long: `Examine data directories of stopped nodes without changing anything: who the
node is, where its log ends, which snapshots hold, who the members are, and
what is damaged, with the way out. Of several directories the one with the
newest data is named: after a majority is lost for good that is the one to
recover.

Exit code 0: sound; 1: damaged, or it cannot be read; 2: wrong usage.`,
		Example: `  envoy-control-plane doctor --data-dir /var/lib/ecp
  envoy-control-plane doctor --data-dir cp-0 --data-dir cp-1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError{fmt.Errorf("-o: %q is neither table nor json", output)}
			}
			out := examineAll(dirs)
			var err error
			if output == "json" {
				err = out.writeJSON(cmd.OutOrStdout())
			} else {
				err = out.writeTable(cmd.OutOrStdout())
			}
			return errors.Join(err, out.verdict())
		},
	}
	cmd.Flags().StringArrayVar(&dirs, "data-dir", []string{cmp.Or(os.Getenv("DATA_DIR"), "./data")}, "data directory of a stopped node; may be given several times [DATA_DIR]")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// diagnosis is what doctor says, and its JSON.
type diagnosis struct {
	Directories []directory `json:"directories"`
	// Newest is the directory with the newest data, of several sound ones.
	Newest string `json:"newest,omitempty"`
	// Conflict says why there is no newest one.
	Conflict string `json:"conflict,omitempty"`
}

type directory struct {
	Dir   string `json:"data_dir"`
	Error string `json:"error,omitempty"`
	Sound bool   `json:"sound"`

	NodeID      string   `json:"node_id,omitempty"`
	Incarnation string   `json:"incarnation,omitempty"`
	ClusterID   string   `json:"cluster_id,omitempty"`
	Epoch       string   `json:"epoch,omitempty"`
	Recoveries  []string `json:"recoveries,omitempty"`
	// Unfinished: a recovery was decided and not carried out.
	Unfinished bool `json:"unfinished_recovery,omitempty"`

	Term      uint64 `json:"term"`
	VotedTerm uint64 `json:"voted_term"`
	VotedFor  string `json:"voted_for,omitempty"`

	// Of the log; 0 when it is empty.
	LogFirstIndex uint64 `json:"log_first_index"`
	LogLastIndex  uint64 `json:"log_last_index"`
	// Of all data, of a snapshot too.
	LastIndex uint64 `json:"last_index"`
	LastTerm  uint64 `json:"last_term"`
	Committed uint64 `json:"committed_index"`

	Snapshots          []snapshot `json:"snapshots"`
	ConfigurationIndex uint64     `json:"configuration_index"`
	Members            []member   `json:"members"`
	FreeBytes          *uint64    `json:"free_bytes,omitempty"`
	Damage             []damage   `json:"damage"`

	examined *cluster.Examination
}

type snapshot struct {
	Path  string `json:"path"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Bytes int64  `json:"bytes"`
	OK    bool   `json:"ok"`
}

type member struct {
	ServerID string `json:"server_id"`
	Address  string `json:"address"`
	Voter    bool   `json:"voter"`
}

type damage struct {
	File   string `json:"file"`
	Index  uint64 `json:"index,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Cause  string `json:"cause"`
	WayOut string `json:"way_out"`
}

func examineAll(dirs []string) *diagnosis {
	d := &diagnosis{}
	for _, dir := range dirs {
		e, err := cluster.Examine(dir)
		if err != nil {
			d.Directories = append(d.Directories, directory{Dir: dir, Error: err.Error()})
			continue
		}
		d.Directories = append(d.Directories, describe(e))
	}
	if len(dirs) > 1 {
		d.compare()
	}
	return d
}

func describe(e *cluster.Examination) directory {
	id := e.Identity
	d := directory{
		Dir: e.Dir, Sound: len(e.Damage) == 0, examined: e,
		NodeID: id.NodeId, Incarnation: id.Incarnation, ClusterID: id.ClusterId,
		Epoch: e.Epoch(), Recoveries: id.Recoveries, Unfinished: id.Recovering != "",
		Term: e.Term, VotedTerm: e.VotedTerm, VotedFor: e.VotedFor,
		LogFirstIndex: e.First, LogLastIndex: e.Last, LastIndex: e.LastIndex, LastTerm: e.LastTerm, Committed: e.Committed,
		ConfigurationIndex: e.ConfigurationIndex, FreeBytes: e.Free,
		Snapshots: []snapshot{}, Members: members(e.Members()), Damage: []damage{},
	}
	for _, s := range e.Snapshots {
		d.Snapshots = append(d.Snapshots, snapshot{Path: s.Path, Index: s.Index, Term: s.Term, Bytes: s.Size, OK: s.Err == nil})
	}
	for _, x := range e.Damage {
		d.Damage = append(d.Damage, damage{File: x.File, Index: x.Index, Offset: x.Offset, Cause: x.Cause, WayOut: x.WayOut})
	}
	return d
}

func members(all []cluster.Member) []member {
	out := make([]member, 0, len(all))
	for _, m := range all {
		out = append(out, member(m))
	}
	return out
}

// compare names the newest data, if all that can be read is of one cluster.
func (d *diagnosis) compare() {
	var newest *cluster.Examination
	for _, dir := range d.Directories {
		e := dir.examined
		switch {
		case e == nil || !e.Sound() || e.LastIndex == 0:
		case newest == nil || e.NewerThan(newest):
			if newest != nil && !e.Comparable(newest) {
				d.Conflict = fmt.Sprintf("%s and %s are of different clusters or recoveries", newest.Dir, e.Dir)
				return
			}
			newest = e
		case !e.Comparable(newest):
			d.Conflict = fmt.Sprintf("%s and %s are of different clusters or recoveries", newest.Dir, e.Dir)
			return
		}
	}
	if newest != nil {
		d.Newest = newest.Dir
	}
}

// verdict is an error when something is wrong.
func (d *diagnosis) verdict() error {
	var wrong []error
	for _, dir := range d.Directories {
		switch {
		case dir.Error != "":
			wrong = append(wrong, errors.New(dir.Error))
		case !dir.Sound:
			wrong = append(wrong, fmt.Errorf("%s is damaged", dir.Dir))
		}
	}
	return errors.Join(wrong...)
}

func (d *diagnosis) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

func (d *diagnosis) writeTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range d.Directories {
		if i > 0 {
			fmt.Fprintln(w)
		}
		d.Directories[i].write(w)
	}
	if d.Newest != "" {
		fmt.Fprintf(w, "\nnewest data\t%s\n", d.Newest)
	}
	if d.Conflict != "" {
		fmt.Fprintf(w, "\nnewest data\tnone: %s\n", d.Conflict)
	}
	return w.Flush()
}

func (d *directory) write(w io.Writer) {
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	line("data directory", "%s", d.Dir)
	if d.Error != "" {
		line("unreadable", "%s", d.Error)
		return
	}
	line("node", "%s, incarnation %s", cmp.Or(d.NodeID, "-"), cmp.Or(d.Incarnation, "-"))
	line("cluster", "%s, epoch %s", cmp.Or(d.ClusterID, "-"), cmp.Or(d.Epoch, "-"))
	for _, r := range d.Recoveries {
		line("recovered", "%s", r)
	}
	if d.Unfinished {
		line("unfinished", "the last recovery was decided and not carried out: start the node, or run recover again")
	}
	line("term", "%d, voted in %d for %s", d.Term, d.VotedTerm, cmp.Or(d.VotedFor, "nobody"))
	line("data ends at", "index %d, term %d; committed at least to %d", d.LastIndex, d.LastTerm, d.Committed)
	if d.LogLastIndex > 0 {
		line("log", "index %d to %d", d.LogFirstIndex, d.LogLastIndex)
	} else {
		line("log", "empty")
	}
	for _, s := range d.Snapshots {
		holds := "holds"
		if !s.OK {
			holds = "DAMAGED"
		}
		line("snapshot", "index %d, term %d, %d bytes, %s", s.Index, s.Term, s.Bytes, holds)
	}
	for _, m := range d.Members {
		line("member", "%s", m)
	}
	if d.FreeBytes != nil {
		line("disk free", "%d MiB", *d.FreeBytes>>20)
	}
	for _, x := range d.Damage {
		x.write(line)
	}
	if d.Sound {
		line("damage", "none")
	}
}

func (x damage) write(line func(name, format string, args ...any)) {
	where := x.File
	if x.Index > 0 {
		where += fmt.Sprintf(", index %d", x.Index)
	}
	if x.Offset > 0 {
		where += fmt.Sprintf(", byte %d", x.Offset)
	}
	line("DAMAGE", "%s: %s", where, x.Cause)
	line("way out", "%s", x.WayOut)
}

// String is a member on one line.
func (m member) String() string {
	role := "non-voter"
	if m.Voter {
		role = "voter"
	}
	return fmt.Sprintf("%s at %s, %s", m.ServerID, m.Address, role)
}
